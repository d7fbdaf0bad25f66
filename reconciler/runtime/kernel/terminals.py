"""Pseudoterminals and window sizes (ioctl_tty(2), pty(7)).

The slave is had from the master by TIOCGPTPEER, never by its path: whoever can change /dev/pts could have another
file opened in its place. What was opened as the multiplexer is verified by descriptor before it is used. Opening
either end never makes it a controlling terminal. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios
from typing import NamedTuple

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_MULTIPLEXER = (5, 2)
_SLAVES = range(136, 144)  # majors of Unix98 slaves
# the instance mounted where we are, then the node beside it: the first may be closed to ordinary users (ptmxmode)
_PATHS = ("/dev/pts/ptmx", "/dev/ptmx")


class Size(NamedTuple):
    rows: int
    columns: int


DEFAULT_SIZE = Size(24, 80)


def open_pair(size: Size) -> tuple[int, int]:
    """A new terminal of the devpts mounted at the caller's /dev/pts: (master, non-blocking; slave)."""
    master = _open_multiplexer()
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if os.major(os.fstat(slave).st_rdev) not in _SLAVES:
            os.close(slave)
            raise OSError(errno.ENOTTY, "what it gave is no pseudoterminal", "/dev/pts")
        set_size(master, size)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def _open_multiplexer() -> int:
    failure: OSError | None = None
    for path in _PATHS:
        try:
            # non-blocking, lest something else that was put there blocks us
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            failure = error
            continue
        found = os.fstat(fd)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(*_MULTIPLEXER):
            return fd
        os.close(fd)
        failure = OSError(errno.ENOTTY, "is not the multiplexer of pseudoterminals", path)
    raise failure or OSError(errno.ENOENT, "no multiplexer of pseudoterminals")


def take_control(fd: int) -> None:
    """Make the terminal the controlling one of the caller's session, which the caller leads and which has none."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def set_size(fd: int, size: Size) -> None:
    """The foreground process group gets SIGWINCH when it changes."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


def size_of(fd: int) -> Size | None:
    """None for what is no terminal, or one that does not know its size."""
    try:
        raw = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return None
    rows, columns, _, _ = struct.unpack("HHHH", raw)
    return Size(rows, columns) if rows and columns else None


def end_of_input(master: int) -> bytes:
    """The character that a program reading lines takes for the end of its input; empty when it reads raw."""
    _, _, _, local, _, _, characters = termios.tcgetattr(master)
    character = characters[termios.VEOF]
    return bytes(character) if local & termios.ICANON and isinstance(character, bytes) else b""
