"""Removing trees that a container may have had its hands on.

Every step goes through a directory descriptor and follows no link, so nothing outside is ever reached. A
directory that its container closed to us (as an ordinary user we are no exception) is opened up first, and one
nested deeper than we have descriptors for is moved up. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_OURS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_DEEPEST = 50


def remove_below(base: Path, parts: Sequence[str]) -> None:
    """Remove base/parts[0]/…/parts[-1] with everything in it. Nothing happens when it is not there, or when a link
    stands on the way: then it is another's. Raises OSError for what cannot be removed."""
    with contextlib.ExitStack() as opened:
        try:
            fd = _keep(opened, os.open(base, _DIRECTORY))
            for part in parts[:-1]:
                fd = _keep(opened, os.open(part, _DIRECTORY, dir_fd=fd))
        except OSError as error:
            if error.errno in _NOT_OURS:
                return
            raise
        remove_at(fd, parts[-1])


def remove(path: Path) -> None:
    """The same of one that no link stands on the way to."""
    remove_below(path.parent, [path.name])


def remove_at(parent: int, name: str) -> None:
    """The same of what is in the directory of that descriptor by that name."""
    with contextlib.suppress(FileNotFoundError):
        if _unlinked(parent, name):
            return
        top = _open(parent, name)
        try:
            while names := os.listdir(top):
                _empty(top, names, top, 0)
        finally:
            os.close(top)
        os.rmdir(name, dir_fd=parent)


def _keep(opened: contextlib.ExitStack, fd: int) -> int:
    opened.callback(os.close, fd)
    return fd


def _empty(fd: int, names: Sequence[str], top: int, depth: int) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # it went by itself
            if _unlinked(fd, name):
                continue
            below = _open(fd, name)
            try:
                if depth < _DEEPEST:
                    _empty(below, os.listdir(below), top, depth + 1)
                else:
                    _move_up(fd, name, top)
                    continue
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=fd)


def _unlinked(parent: int, name: str) -> bool:
    """False for a directory."""
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=parent)
    return True


def _move_up(parent: int, name: str, top: int) -> None:
    for number in itertools.count():
        try:
            os.rename(name, f"deep-{number}", src_dir_fd=parent, dst_dir_fd=top)
            return
        except OSError as error:  # something of that name is there
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise


def _open(parent: int, name: str) -> int:
    """A directory, for reading it and for removing what is in it."""
    with contextlib.suppress(PermissionError):
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=fd):
            with contextlib.suppress(PermissionError):
                os.fchmod(fd, stat.S_IRWXU)
        return fd
    # Not readable even for its owner, so we are not root. Should a link take its place right now, it is followed:
    # that reaches nothing which the container, running as the same user, could not change itself.
    os.chmod(name, stat.S_IRWXU, dir_fd=parent)
    return os.open(name, _DIRECTORY, dir_fd=parent)
