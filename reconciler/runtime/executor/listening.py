"""The socket that an executor comes to, in its container's sandbox, and who may speak there.

Invariant: the sandbox is the container's to change at any time, so nothing in it is followed or trusted. The directory
is resolved beneath the top-level sandbox without links; the socket is made under a name nobody knows beforehand and
renamed into place, over whatever is there, so that an agent that comes anew has its own at the same path. Anybody may
connect: who it is, the kernel says (SO_PEERCRED, unix(7)), and only descendants of the container's first process are
heard.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import struct
from pathlib import Path

from reconciler.runtime.kernel import proc, rootpaths

SOCKET = "executor.sock"
BACKLOG = 8
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_DEEPEST = 1000


def listen(top: str, beneath: str) -> socket.socket:
    """Blocks, not for long. Raises OSError."""
    with rootpaths.opened(top) as root, rootpaths.readable(rootpaths.existing(root, beneath or ".", links=False)) as at:
        temporary = f".{SOCKET}.{secrets.token_hex(8)}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listener.bind(f"/proc/self/fd/{at}/{temporary}")
            listener.listen(BACKLOG)
            _open_to_all(at, temporary)
            os.rename(temporary, SOCKET, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            listener.close()
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=at)
            raise
        return listener


def remove(top: str, beneath: str) -> None:
    """Blocks, not for long. Nothing there, or something else, is fine."""
    with contextlib.suppress(OSError), rootpaths.opened(top) as root:
        found = rootpaths.existing(root, beneath or ".", links=False)
        try:
            if stat.S_ISSOCK(os.stat(SOCKET, dir_fd=found, follow_symlinks=False).st_mode):
                os.unlink(SOCKET, dir_fd=found)
        finally:
            os.close(found)


def belongs(connection: socket.socket, first: int) -> bool:
    """Whether who connected is the container's first process or descends from it."""
    pid, _, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    for _ in range(_DEEPEST):
        if pid == first:
            return True
        above = proc.read_stat(pid) if pid > 1 else None
        if above is None:
            return False
        pid = above.ppid
    return False


def _open_to_all(at: int, name: str) -> None:
    """By what was opened, lest the mode go to something that the container put in its place."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        found = os.fstat(fd)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise OSError(0, "the container put something else in the place of its socket", name)
        Path(f"/proc/self/fd/{fd}").chmod(0o666)
    finally:
        os.close(fd)
