"""Reading one spec file so that nothing in a directory can block, fool or hurt the reader.

Invariant: only regular files are opened, and none that someone has open for writing: a read lease
(fcntl(2), F_SETLEASE) is refused with EAGAIN while a writer exists, and holds a new writer back
for the fraction of a millisecond that the read takes. Where leases do not work (another's file,
a network file system) a file counts as written to until it has been left alone for a moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from dataclasses import dataclass
from pathlib import Path

QUIET = 0.1
"""Seconds without a change after which a file without leases counts as finished."""

_NO_LEASE = (errno.EACCES, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS)
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3"})


@dataclass(frozen=True, slots=True)
class Identity:
    """What changes when a file's content does, as far as stat(2) can tell."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def age(self, now_ns: int) -> float:
        """Seconds since it was last touched; a time in the future counts as long ago."""
        age = (now_ns - max(self.modified, self.changed)) / 1e9
        return age if age >= 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Content:
    """identity is of the very file read; data at most `limit` + 1 bytes of it."""

    identity: Identity
    data: bytes


class Busy(Exception):
    """Someone is still writing it."""


class NotAFile(Exception):
    """It is no regular file; the message says what it is."""


def kind(mode: int) -> str:
    """What a file that is not regular is called."""
    for test, name in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISLNK, "a symbolic link"),
    ):
        if test(mode):
            return name
    return "not a regular file"


def read(path: str, limit: int) -> Content:
    """The whole file, or its first limit + 1 bytes. Raises Busy, NotAFile, OSError."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):  # opening a device can have effects, so it is not even tried
        raise NotAFile(kind(mode))
    # O_NONBLOCK: should it have become a FIFO since, opening must not wait for a writer
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise NotAFile(kind(before.st_mode))
        leased = _lease(descriptor, before.st_dev)
        try:
            data = _read_all(descriptor, limit)
        finally:
            if leased:
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        identity = Identity.of(os.fstat(descriptor))
        if not leased and (identity != Identity.of(before) or identity.age(time.time_ns()) < QUIET):
            raise Busy
        return Content(identity, data)
    finally:
        os.close(descriptor)


def _lease(descriptor: int, device: int) -> bool:
    """True when a read lease is held, False when there is none to be had. Raises Busy."""
    # a broken lease is announced by SIGIO, which would end the process; SIGURG is ignored by default
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno in _NO_LEASE or (error.errno == errno.EAGAIN and _remote(device)):
            return False
        if error.errno == errno.EAGAIN:
            raise Busy from None
        raise
    return True


def _remote(device: int) -> bool:
    """These file systems answer EAGAIN, too, when the server has not delegated the file."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split(" ")[2] == number:
            return source.split(" ")[0] in _REMOTE
    return False


def _read_all(descriptor: int, limit: int) -> bytes:
    parts: list[bytes] = []
    wanted = limit + 1
    while wanted > 0 and (part := os.read(descriptor, wanted)):
        parts.append(part)
        wanted -= len(part)
    return b"".join(parts)
