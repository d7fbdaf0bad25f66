"""`approve NAME...|--all`: lets what is held be destroyed: a mass deletion, or what has `prune: confirm`."""

from __future__ import annotations

import argparse
import sys

from reconciler.agent.paths import Places
from reconciler.errors import ReconcilerError

_SECONDS = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true", help="everything that is held")


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.control import ask

    if args.all == bool(args.names):
        raise ReconcilerError("approve what? Give names, or --all")
    names = None if args.all else args.names
    try:
        approved = set(ask(places.control, {"op": "approve", "names": names}, timeout=_SECONDS)["approved"])
    except OSError:
        from reconciler.agent.once import approve

        approved = set(approve(places, names))
        if approved:
            print("reconciler: no agent is running: the next `run` or `apply` destroys them", file=sys.stderr)
    for name in sorted(approved):
        print(name)
    if args.all and not approved:
        print("reconciler: nothing is held", file=sys.stderr)
    for name in args.names:
        if name not in approved:
            print(f"reconciler: {name} is not held", file=sys.stderr)
    return 0 if approved and approved >= set(args.names) else 1
