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
    request = {"op": "approve", "names": None if args.all else args.names}
    try:
        answer = ask(places.control, request, timeout=_SECONDS)
    except OSError:
        raise ReconcilerError("no agent is running: there is nobody to approve to; start one with `run`") from None
    approved = set(answer["approved"])
    for name in sorted(approved):
        print(name)
    for name in args.names:
        if name not in approved:
            print(f"reconciler: {name} is not held", file=sys.stderr)
    return 0 if approved and approved >= set(args.names) else 1
