"""`logs NAME`: what a container wrote, its stdout to stdout and its stderr to stderr; rotated files come first."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from reconciler.agent import report
from reconciler.agent.lock import known_owner
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.errors import ReconcilerError
from reconciler.runtime.mesos.rotation import data_start, generations

_POLL = 0.1
_LOOKS_AT_ROW_EVERY = 5  # polls
_OVER = frozenset({"Completed", "Failed"})
_CHUNK = 1 << 16


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it is over or gone")
    parser.add_argument("--previous", action="store_true", help="of the run before this one")


def run(args: argparse.Namespace, places: Places) -> int:
    if (row := report.row(places, args.name)) is None:
        not_found(args.name)
        return NOT_FOUND
    if row["type"] == "docker":
        return _of_an_engine(args, places)
    directory = places.records / args.name / "logs"
    directory = directory / "previous" if args.previous else directory
    files = [_Stream(directory / "stdout", sys.stdout.buffer), _Stream(directory / "stderr", sys.stderr.buffer)]
    for stream in files:
        stream.print_older()
        stream.print_new()
    if args.follow and not args.previous:
        _follow(files, places, args.name)
    return 0


def _of_an_engine(args: argparse.Namespace, places: Places) -> int:
    if args.previous:
        raise ReconcilerError(f"{args.name}: an engine keeps no output of the run before this one")
    from reconciler.runtime.docker import naming, streams

    url, owner = naming.url_of(os.environ), known_owner(places) or ""
    streams.copy_logs(url, owner, args.name, sys.stdout.buffer, sys.stderr.buffer, follow=args.follow)
    return 0


def _follow(files: Sequence[_Stream], places: Places, name: str) -> None:
    for poll in itertools.count():
        over = False
        if poll % _LOOKS_AT_ROW_EVERY == 0:
            row = report.row(places, name)
            over = row is None or row["status"] in _OVER
        for stream in files:  # after the look: what it wrote before its end is still to come
            stream.print_new()
        if over:
            return
        time.sleep(_POLL)


class _Stream:
    """One log file and where we are in it. A new run begins a new file."""

    def __init__(self, path: Path, out: BinaryIO) -> None:
        self._path = path
        self._out = out
        self._inode = -1
        self._at = 0

    def print_older(self) -> None:
        for file in generations(self._path):
            if file != self._path:
                self._out.write(file.read_bytes())

    def print_new(self) -> None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            status = os.fstat(fd)
            if status.st_ino != self._inode:
                self._inode, self._at = status.st_ino, 0
            # rotation takes blocks out of the head: what was read is no longer counted
            self._at = max(min(self._at, status.st_size), data_start(fd))
            while chunk := os.pread(fd, _CHUNK, self._at):
                self._out.write(chunk)
                self._at += len(chunk)
        finally:
            os.close(fd)
        self._out.flush()
