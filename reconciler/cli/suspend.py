"""`suspend NAME...`: stops containers with what is nested in them, and keeps them stopped until `resume`; with or
without an agent, and across its restarts and a reboot. 4 when there is no such container."""

from __future__ import annotations

import argparse

from reconciler.agent import report
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found, who
from reconciler.cli.table import complain


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME")


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.once import suspend

    known = {row["name"] for row in report.rows(places)}
    if unknown := [name for name in args.names if name not in known]:
        for name in unknown:
            not_found(name)
        return NOT_FOUND
    done = suspend(places, args.names, who())
    complain(done.message)
    return done.code
