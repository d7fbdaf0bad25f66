"""`events [NAME…]`: what happened, oldest first; `-f` goes on with what happens."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reconciler.agent import eventlog, report
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.cli.table import clean

_POLL = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="these, with what is nested in them; none: all")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until interrupted")
    parser.add_argument("-n", "--last", type=int, metavar="COUNT", help="of the past only so many")


def run(args: argparse.Namespace, places: Places) -> int:
    follower = _Follower(places, args.names)
    past = sorted(follower.news(), key=lambda event: str(event["at"]))
    if missing := [name for name in args.names if not _known(name, past, places)]:
        not_found(missing[0])
        return NOT_FOUND
    _print(past[-args.last :] if args.last else past if args.last is None else [], args.output)
    while args.follow:
        time.sleep(_POLL)
        _print(sorted(follower.news(), key=lambda event: str(event["at"])), args.output)
    return 0


def _known(name: str, past: list[dict[str, Any]], places: Places) -> bool:
    return any(eventlog.about(event["name"], [name]) for event in past) or report.row(places, name) is not None


def _print(events: list[dict[str, Any]], form: str) -> None:
    for event in events:
        if form == "json":
            print(json.dumps(event))
        else:
            name = event["name"] or "-"
            print(clean(f"{event['at']}  {event['type']:<12}  {name}  {event['message']}".rstrip()))
    sys.stdout.flush()


class _Follower:
    """Where we are in each file, known by its inode: what is rotated away meanwhile is read to its end."""

    def __init__(self, places: Places, names: list[str]) -> None:
        self._places = places
        self._names = names
        self._at: dict[int, int] = {}

    def news(self) -> Iterator[dict[str, Any]]:
        for path in eventlog.files(self._places, self._names):
            with contextlib.suppress(FileNotFoundError):
                yield from self._read(path)

    def _read(self, path: Path) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            inode = path.stat().st_ino
            file.seek(self._at.get(inode, 0))
            for line in file:
                if not line.endswith(b"\n"):
                    break  # the rest is being written
                self._at[inode] = self._at.get(inode, 0) + len(line)
                event = eventlog.parse(line)
                if event is not None and eventlog.about(event["name"], self._names):
                    yield event
