"""`rollback NAME`: has an earlier revision asked for, until its file is edited; with or without an agent, and across
its restarts and a reboot. `--off` takes it back. 1 when there is no such revision, 4 when there is no such name."""

from __future__ import annotations

import argparse

from reconciler.agent import report
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found, who
from reconciler.cli.table import complain


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the top level; the whole tree goes back")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--to", type=int, metavar="N", help="that revision (default: the one before that in force)")
    group.add_argument("--off", action="store_true", help="ask for what the file has now, again")


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.once import roll_back, roll_forward

    if report.row(places, args.name) is None:
        not_found(args.name)
        return NOT_FOUND
    done = roll_forward(places, args.name) if args.off else roll_back(places, args.name, args.to, who())
    complain(done.message)
    return done.code
