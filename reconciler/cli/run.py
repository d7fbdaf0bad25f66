"""`run SOURCE`: the daemon, in the foreground, until SIGTERM or SIGINT; containers stay."""

from __future__ import annotations

import argparse

from reconciler.agent.lock import AgentAlive
from reconciler.agent.paths import Places
from reconciler.cli import agent_options, source_options


def configure(parser: argparse.ArgumentParser) -> None:
    source_options.add(parser)
    parser.add_argument(
        "--notify",
        action="append",
        metavar="COMMAND|URL",
        help="told of each transition, as JSON: on standard input, or by POST; may be given more than once",
    )
    parser.add_argument("--metrics", metavar="ADDRESS:PORT", help="serve /metrics there, on a loopback address")
    agent_options.add(parser)


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.daemon import run as run_daemon
    from reconciler.agent.once import InTheWay

    try:
        choice, options = source_options.chosen(args), agent_options.chosen(args)
        return run_daemon(places, choice, options, args.notify or (), args.metrics)
    except AgentAlive as alive:
        raise InTheWay(alive.message) from None
