"""`destroy NAME...|--all`: ends containers and leaves nothing of them; `--all` ends the agent first."""

from __future__ import annotations

import argparse

from reconciler.agent import report
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.cli.table import complain
from reconciler.errors import ReconcilerError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="with everything nested in it")
    parser.add_argument("--all", action="store_true", help="everything that is ours, the agent included")


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.once import destroy, destroy_all

    if args.all == bool(args.names):
        raise ReconcilerError("destroy what? Give names, or --all")
    if args.all:
        done = destroy_all(places)
        complain(done.message)
        return done.code
    known = {row["name"] for row in report.rows(places)}
    missing = [name for name in args.names if name not in known]
    for name in missing:
        not_found(name)
    if missing:
        return NOT_FOUND
    done = destroy(places, args.names)
    complain(done.message)
    return done.code
