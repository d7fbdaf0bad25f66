"""`attach NAME`: the live output of a container with `tty` or `stdin`, and its input for one at a time.

On a terminal ctrl-p ctrl-q detaches and leaves the container as it is. Ends with 0 when detached or when the container
has ended, with 1 when the connection is lost. Works without an agent.
"""

from __future__ import annotations

import argparse
import os
import sys

from reconciler.agent import report
from reconciler.agent.lock import known_owner
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.errors import ReconcilerError
from reconciler.runtime.mesos.checkpoint import Checkpoints, Run, Unreadable


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--no-stdin", action="store_true", help="only watch: another may have the input")


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.runtime.kernel import proc
    from reconciler.runtime.launcher import attaching

    checkpoints = Checkpoints(places.runtime_dir)
    try:
        found = checkpoints.read(args.name)
    except Unreadable as error:
        raise ReconcilerError(f"{args.name}: its checkpoint cannot be read: {error}") from error
    if found is None:
        if (row := report.row(places, args.name)) is None:
            not_found(args.name)
            return NOT_FOUND
        if row["type"] == "docker":
            return _to_an_engines(args, places)

    def runs() -> bool:
        return found is not None and proc.is_running(found.pid or 0, found.start or 0)

    if found is None or not runs():
        raise ReconcilerError(f"{args.name} is not running")
    _check_attachable(found)
    role = "reader" if args.no_stdin else "writer"
    try:
        sock, answer = attaching.connect(checkpoints.directory(args.name), role, runs)
    except ReconcilerError as error:
        hint = "" if args.no_stdin else "; --no-stdin only watches"
        raise ReconcilerError(f"{args.name}: {error.message}{hint}") from error
    end = attaching.attach(sock, tty=answer["tty"], writes=not args.no_stdin)
    lost = end is attaching.End.LOST
    what = f"{end.value}; attach again" if lost else end.value
    print(f"reconciler: {args.name}: {what}", file=sys.stderr)
    return 1 if lost else 0


def _to_an_engines(args: argparse.Namespace, places: Places) -> int:
    from reconciler.runtime.docker import naming, streams

    owner, url = known_owner(places) or "", naming.url_of(os.environ)
    lost, how = streams.attach(url, owner, args.name, stdin=not args.no_stdin)
    print(f"reconciler: {args.name}: {how}{'; attach again' if lost else ''}", file=sys.stderr)
    return 1 if lost else 0


def _check_attachable(found: Run) -> None:
    if not found.plan.get("pump"):
        hint = "set spec.tty or spec.stdin, or use `reconciler logs -f`"
        raise ReconcilerError(f"{found.name} has neither a terminal nor an open standard input: {hint}")
