"""Paths inside a directory tree that somebody else may write to: the only module that resolves them.

Invariant: no path leads out of the tree it is resolved in, whatever links or renames it meets: an absolute link
and ".." stay inside, a magic link of /proc is refused, and what is found is handed on as a descriptor, never as
a path again. Missing directories are made one at a time, each in the directory just opened. Follows openat2(2)
(Linux 5.6) and runc's pathrs. Standard library only: the child uses it too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator

from reconciler.runtime.kernel import mounts, syscalls

_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_IN_ROOT = 0x10
_SYS_OPENAT2 = 437
_ATTEMPTS = 64  # openat2 gives up with EAGAIN when something is renamed meanwhile; an attacker can do that for ever

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_MODE = 0o755
_FILE_MODE = 0o644


class _OpenHow(ctypes.Structure):
    """struct open_how, include/uapi/linux/openat2.h."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("flags", "mode", "resolve"))


def _openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    how = _OpenHow(flags=flags | os.O_CLOEXEC, resolve=resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    for left in reversed(range(_ATTEMPTS)):
        try:
            raw = os.fsencode(path)
            return syscalls.call("openat2", _SYS_OPENAT2, directory, raw, ctypes.byref(how), size, path=path)
        except BlockingIOError:
            if not left:
                raise
    raise AssertionError("the last attempt returns or raises")


def open_inside(root: int, path: str, flags: int = os.O_PATH, *, links: bool = True) -> int:
    """A descriptor of what `path` is inside `root`. links=False: a symbolic link anywhere in it is an error."""
    resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | (0 if links else _RESOLVE_NO_SYMLINKS)
    return _openat2(root, path, flags, resolve)


def directory(root: int, path: str, *, links: bool = True) -> int:
    """A descriptor of the directory `path` inside `root`, which is made, with those above it, if it is missing.

    links=False: every part must be an ordinary directory."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(errno.EINVAL, "must not contain '..'", path)
    try:
        with contextlib.suppress(FileNotFoundError):
            return open_inside(root, path, _DIRECTORY, links=links)
        return _make(root, parts, links=links)
    except OSError as error:
        raise _explained(error, path) from error


def _make(root: int, parts: list[str], *, links: bool) -> int:
    if not parts:
        return os.dup(root)
    try:
        parent = open_inside(root, "/".join(parts[:-1]) or ".", _DIRECTORY, links=links)
    except FileNotFoundError:
        parent = _make(root, parts[:-1], links=links)
    try:
        return _make_one(parent, parts[-1])
    finally:
        os.close(parent)


def file(root: int, path: str, *, links: bool = True) -> int:
    """A descriptor of what is at `path` inside `root`, which is made, an empty file, if it is missing."""
    try:
        with contextlib.suppress(FileNotFoundError):
            return open_inside(root, path, links=links)
        above, _, name = path.rstrip("/").rpartition("/")
        parent = directory(root, above or ".", links=links)
        try:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE, dir_fd=parent))
            return open_inside(parent, name, links=False)
        finally:
            os.close(parent)
    except OSError as error:
        raise _explained(error, path) from error


def entry(root: int, path: str, *, make: bool) -> int:
    """A descriptor of what has that name inside `root`, of a link itself, not of where it leads. make: an empty file if
    nothing has. Raises OSError."""
    above, _, name = path.rstrip("/").rpartition("/")
    parent = directory(root, above or ".") if make else open_inside(root, above or ".", _DIRECTORY)
    try:
        if make:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE, dir_fd=parent))
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)


def existing(root: int, path: str, *, links: bool = True) -> int:
    """A descriptor of what is at `path` inside `root`; an error that says what is in the way."""
    try:
        return open_inside(root, path, links=links)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _explained(error, path) from error


def _make_one(parent: int, name: str) -> int:
    # it was not there: a link that is now was planted, or leads nowhere, and is not followed
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, _MODE, dir_fd=parent)
    return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


_MEANING = {
    errno.ELOOP: "must be an ordinary path, but a symbolic link is in the way",
    errno.ENOTDIR: "must be a directory, but something else is in the way",
    errno.EROFS: "it is not there, and cannot be made: the file system is read-only",
    errno.EACCES: "it is not there, and cannot be made: permission denied",
}


def _explained(error: OSError, path: str) -> OSError:
    number = error.errno or 0
    return OSError(number, _MEANING.get(number) or os.strerror(number), path)


def mount_point(root: int, path: str, make: Callable[..., int] = directory, *, links: bool = True) -> int:
    """Like `make`, for something of the user's to be mounted on: never in /proc or /sys, where it would stand in
    for the kernel's own files to whoever reads them by path (CVE-2019-16884)."""
    fd = make(root, path, links=links)
    if mounts.kind(fd) in (mounts.PROC_SUPER_MAGIC, mounts.SYSFS_MAGIC):
        os.close(fd)
        raise OSError(errno.EPERM, "nothing may be mounted in /proc or /sys", path)
    return fd


def enter(path: str) -> None:
    """Make `path` the working directory, but not by way of a descriptor that this process holds (CVE-2024-21626)."""
    try:
        fd = _openat2(syscalls.AT_FDCWD, path, _DIRECTORY, _RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        circle = "must not lead through /proc's links to what a process holds, nor through a circle of links"
        message = circle if error.errno == errno.ELOOP else os.strerror(error.errno or 0)
        raise OSError(error.errno, message, path) from error
    try:
        os.fchdir(fd)
    finally:
        os.close(fd)
    try:
        inside = os.getcwd().startswith("/")
    except FileNotFoundError:
        inside = False
    if not inside:
        os.chdir("/")
        raise OSError(errno.EXDEV, "lies outside of the root file system", path)


@contextlib.contextmanager
def opened(path: str, *, links: bool = True, anything: bool = False) -> Iterator[int]:
    """The directory at a path that nobody but the administrator decides, to resolve others in. anything: or a file.
    links=False: the path was resolved before; a link in it now was put there since, and is an error."""
    resolve = _RESOLVE_NO_MAGICLINKS if links else _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS
    fd = _openat2(syscalls.AT_FDCWD, path, os.O_PATH if anything else _DIRECTORY, resolve)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def made(root: int, path: str, *, links: bool = True) -> Iterator[int]:
    """`directory`, opened for reading, which its owner and mode can be changed through."""
    with readable(directory(root, path, links=links)) as fd:
        yield fd


@contextlib.contextmanager
def readable(found: int) -> Iterator[int]:
    """A directory that was found, opened for reading; `found` is closed."""
    try:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
    finally:
        os.close(found)
    try:
        yield fd
    finally:
        os.close(fd)


def read_file(root: int, path: str, limit: int) -> bytes | None:
    """An ordinary file's content; None when there is none. A device or FIFO is not even opened."""
    try:
        found = open_inside(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "must be an ordinary file", path)
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)
    with open(fd, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"must not be larger than {limit} bytes", path)
    return data
