"""`resume NAME...`: lets run again what `suspend` stopped. 1 when something else suspends it still, its spec or what
it is nested in; 4 when there is no such container."""

from __future__ import annotations

import argparse

from reconciler.agent import marks, report
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.cli.table import complain

SUSPENDED = "suspended"
"""The kind of mark, as `loop.suspending` has it."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME")


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.once import resume

    marked = marks.read(places.marks, SUSPENDED)
    known = {row["name"] for row in report.rows(places)} | marked.keys()
    if unknown := [name for name in args.names if name not in known]:
        for name in unknown:
            not_found(name)
        return NOT_FOUND
    done = resume(places, args.names)
    complain(done.message)
    return done.code
