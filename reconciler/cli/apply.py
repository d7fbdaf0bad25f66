"""`apply SOURCE`: converge once, leave everything running, return when it is as desired; 1 when it cannot be."""

from __future__ import annotations

import argparse

from reconciler.agent.paths import Places
from reconciler.cli import agent_options, source_options
from reconciler.cli.table import complain
from reconciler.cli.wait import duration


def configure(parser: argparse.ArgumentParser) -> None:
    source_options.add(parser)
    parser.add_argument("--timeout", default="5m", metavar="T", help="such as 30s or 1m30s; default: 5m")
    agent_options.add(parser)


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.once import apply

    seconds = duration(args.timeout)
    done = apply(places, source_options.chosen(args), agent_options.chosen(args), seconds)
    complain(done.message)
    return done.code
