"""`exec [-it] NAME -- COMMAND`: in all of the container's namespaces and in its cgroup; its exit code is passed on.

-i passes standard input on, without it the command has none; -t gives it a terminal of its own inside the container.
Its streams are never a terminal of ours.
"""

from __future__ import annotations

import argparse
import os
import sys

from reconciler.agent import report
from reconciler.agent.lock import known_owner
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.cli.table import clean
from reconciler.errors import LaunchFailed, ReconcilerError
from reconciler.runtime.mesos.checkpoint import Checkpoints, Unreadable


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "reconciler exec [-i] [-t] NAME [--env NAME=VALUE] [--cwd DIR] -- COMMAND [ARG ...]"
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal of its own")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="added to the container's own")
    parser.add_argument("--cwd", metavar="DIR", help="default: the container's working directory")
    parser.add_argument("command", nargs="+", metavar="COMMAND")


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.runtime.launcher.client import exec_in

    try:
        run_ = Checkpoints(places.runtime_dir).read(args.name)
    except Unreadable as error:
        raise ReconcilerError(f"{args.name}: its checkpoint cannot be read: {error}") from error
    if run_ is None:
        if (row := report.row(places, args.name)) is None:
            not_found(args.name)
            return NOT_FOUND
        if row["type"] == "docker":
            return _in_an_engines(args, places)
        raise ReconcilerError(f"{args.name} is not running")
    env = dict(_assignment(text) for text in args.env)
    if args.tty and (kind := os.environ.get("TERM")):
        env.setdefault("TERM", kind)
    try:
        return exec_in(run_, places.runtime_dir, args.command, env=env, cwd=args.cwd, stdin=args.stdin, tty=args.tty)
    except LaunchFailed as error:
        print(clean(f"reconciler: {error.message}"), file=sys.stderr)
        return error.code


def _in_an_engines(args: argparse.Namespace, places: Places) -> int:
    from reconciler.runtime.docker import naming, streams

    owner, url = known_owner(places) or "", naming.url_of(os.environ)
    env = dict(_assignment(text) for text in args.env)
    if args.tty and (kind := os.environ.get("TERM")):
        env.setdefault("TERM", kind)
    return streams.execute(url, owner, args.name, args.command, env=env, cwd=args.cwd, stdin=args.stdin, tty=args.tty)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ReconcilerError(f"--env {text}: write it as NAME=VALUE")
    return name, value
