"""Bounds the log files that containers append to, without losing a byte and without a process in between.

A container holds an O_APPEND descriptor of its own, so its file cannot be renamed away under it. Once it is
over the limit, whole blocks are copied from its head into `stdout.1` (older ones move up, the oldest goes), and taken
out of the file with FALLOC_FL_COLLAPSE_RANGE; what is appended meanwhile stays at the end. Where the file system
cannot do that (tmpfs) the head becomes a hole instead, which readers skip. A line may straddle two files; `stdout.N` …
`stdout.1` and `stdout`, read in this order, are what the container wrote.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from reconciler.runtime.kernel import syscalls

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """size: bytes after which a file is rotated; files: how many there may be of one stream, the current included."""

    size: int
    files: int


def rotate(path: Path, bounds: Bounds) -> bool:
    """Rotate the file if it is over its limit; whether it was. A link in its place is not followed."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        start = data_start(fd)
        block = os.fstatvfs(fd).f_bsize
        size = (os.fstat(fd).st_size - start) // block * block
        if size < bounds.size:
            return False
        _move_up(path, bounds.files)
        if bounds.files > 1:
            _copy(fd, start, size, path.with_name(path.name + ".1"))
        _drop(fd, start, size)
    finally:
        os.close(fd)
    return True


def generations(path: Path) -> list[Path]:
    """The files of one stream that exist, oldest first, the current one last."""
    older = []
    number = 1
    while (each := path.with_name(f"{path.name}.{number}")).exists():
        older.append(each)
        number += 1
    return [*reversed(older), *([path] if path.exists() else [])]


def data_start(fd: int) -> int:
    """Where the bytes begin that are not a hole."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # empty, or nothing but a hole
            return os.fstat(fd).st_size
        raise


def _move_up(path: Path, files: int) -> None:
    """stdout.1 → stdout.2 …, as far as there may be files."""
    for number in range(files - 2, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}.{number}").rename(path.with_name(f"{path.name}.{number + 1}"))


def _copy(source: int, start: int, size: int, target: Path) -> None:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        end = start + size
        while start < end:
            chunk = os.pread(source, min(_CHUNK, end - start), start)
            if not chunk:
                return
            os.write(fd, chunk)
            start += len(chunk)
    finally:
        os.close(fd)


def _drop(fd: int, start: int, size: int) -> None:
    if start == 0:
        try:
            syscalls.drop_file_head(fd, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    syscalls.drop_file_head(fd, start + size, keep_size=True)
