"""Record locks (fcntl(2)): one process may hold a file, and anybody may ask who does. Standard library only.

They end with their process, whoever it was forked by, and hold across mount and pid namespaces. A process that closes
any descriptor of a file loses its lock on it.
"""

from __future__ import annotations

import fcntl
import os
import struct

_FLOCK = "hhqqi4x"  # struct flock: l_type, l_whence, l_start, l_len (0: to the end), l_pid


def take(fd: int) -> bool:
    """Hold it for life, unless another process does."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def holder(fd: int) -> int | None:
    """The process that holds it, 0 for one that cannot be seen from here; None when nobody does."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else max(pid, 0)
