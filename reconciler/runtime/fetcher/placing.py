"""Files in a sandbox that its container can write to. Standard library only.

Invariant: nothing is written, made or removed outside the sandbox: every path is resolved in it, a symbolic link
anywhere on the way is an error, and what is in the place of a file is replaced, never written into.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from reconciler.runtime.fetcher.request import FetchError
from reconciler.runtime.kernel import rootpaths

_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def parts_of(path: str) -> list[str]:
    """Raises FetchError for a path that leads up, or nowhere."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise FetchError(f"would be written to {path!r}, which leads out of its place")
    return parts


@contextlib.contextmanager
def above(sandbox: int, path: str) -> Iterator[tuple[int, str]]:
    """The directory that the path's last part is to be in, made if it is missing, and that part."""
    if not (parts := parts_of(path)):
        raise FetchError(f"would be written to {path!r}, which is no name of a file")
    *way, name = parts
    directory = rootpaths.directory(sandbox, "/".join(way) or ".", links=False)
    try:
        yield directory, name
    finally:
        os.close(directory)


@contextlib.contextmanager
def replacing(sandbox: int, path: str, mode: int) -> Iterator[BinaryIO]:
    """A new file that is at `path` once the block has ended well; until then what was there stays."""
    with above(sandbox, path) as (directory, name):
        temporary = f".{name[:200]}.fetched"
        _cleared(directory, temporary)
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | _NEW, 0o600, dir_fd=directory), "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            _cleared(directory, temporary)
            raise


@contextlib.contextmanager
def passing(sandbox: int) -> Iterator[BinaryIO]:
    """A file without a name, on the sandbox's file system."""
    name = ".archive.fetched"
    _cleared(sandbox, name)
    fd = os.open(name, os.O_RDWR | _NEW, 0o600, dir_fd=sandbox)
    os.unlink(name, dir_fd=sandbox)
    with os.fdopen(fd, "w+b") as file:
        yield file


def directory(sandbox: int, path: str, mode: int | None = None) -> None:
    """Made if it is missing; `mode` as far as it leaves it usable for us."""
    found = rootpaths.directory(sandbox, "/".join(parts_of(path)) or ".", links=False)
    try:
        if mode is not None:
            os.chmod(".", 0o700 | (mode & 0o777), dir_fd=found)
    finally:
        os.close(found)


def link(sandbox: int, path: str, target: str) -> None:
    """A symbolic link; where it leads to is for who follows it in the container."""
    with above(sandbox, path) as (found, name):
        _cleared(found, name)
        os.symlink(target, name, dir_fd=found)


def hard_link(sandbox: int, path: str, target: str) -> None:
    """To an ordinary file of the sandbox."""
    with above(sandbox, target) as (source, old), above(sandbox, path) as (found, name):
        _cleared(found, name)
        os.link(old, name, src_dir_fd=source, dst_dir_fd=found, follow_symlinks=False)


def _cleared(directory: int, name: str) -> None:
    """Whatever but a directory is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
