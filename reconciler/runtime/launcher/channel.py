"""JSON messages with file descriptors over a SOCK_SEQPACKET Unix socket: how the keeper is spoken to.

One message is one packet. A body over 64 KiB travels as a sealed memfd (the socket stops at about
208 KiB). Descriptors are received close-on-exec. Standard library only: the keeper imports this.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
from typing import Any

Message = dict[str, Any]

_PACKET = 64 * 1024
_MAX_FDS = 64
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_MAX_BODY = 16 * 1024 * 1024


def send(sock: socket.socket, message: Message, fds: list[int] | None = None) -> None:
    """Raises BlockingIOError when a non-blocking socket is full."""
    fds = fds or []
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) <= _PACKET:
        _send(sock, body, fds)
        return
    memfd = sealed(body)
    try:
        _send(sock, b"", [memfd, *fds])
    finally:
        os.close(memfd)


def sealed(body: bytes) -> int:
    """A memfd with that in it, which nobody can change any more; the caller closes it."""
    memfd = os.memfd_create("message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(memfd, "wb", closefd=False) as file:
            file.write(body)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(memfd)
        raise
    return memfd


def _send(sock: socket.socket, body: bytes, fds: list[int]) -> None:
    # an empty packet would read as the end of the connection: the first byte says what follows
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([b"=" if body else b"@", body], rights)


def receive(sock: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message and its descriptors (the caller closes them); None at the end of the connection.
    Raises ValueError for what is not one of our messages, after closing what came with it."""
    size = socket.CMSG_LEN(_MAX_FDS * array.array("i").itemsize)
    packet, ancillary, _, _ = sock.recvmsg(_PACKET + 1, size, socket.MSG_CMSG_CLOEXEC)
    fds = _descriptors(ancillary)
    if not packet:
        return None
    try:
        body = packet[1:] if packet[:1] == b"=" else read_sealed(fds.pop(0))
        message = json.loads(body)
        if not isinstance(message, dict):
            raise ValueError("a message is a JSON object")
    except (ValueError, IndexError, OSError, RecursionError) as error:
        for fd in fds:
            os.close(fd)
        raise ValueError(f"unreadable message: {error}") from error
    return message, fds


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def read_sealed(fd: int) -> bytes:
    """What is in such a memfd; closes it. Raises ValueError for one that could still be changed."""
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise ValueError("a large message must come in a sealed memfd")
        size = os.fstat(fd).st_size
        if size > _MAX_BODY:
            raise ValueError(f"a message of {size} bytes is over the limit of {_MAX_BODY}")
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)


def connect(runtime_dir: str, name: str, *, timeout: float | None = None) -> socket.socket:
    """Connect to the socket `name` in `runtime_dir`. Goes through a directory descriptor, so the path may be
    longer than sockaddr_un allows. Raises FileNotFoundError or ConnectionRefusedError when nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    directory = os.open(runtime_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.settimeout(timeout)
        sock.connect(f"/proc/self/fd/{directory}/{name}")
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock


def listen(runtime_dir: str, name: str) -> socket.socket:
    """A listening socket at `runtime_dir`/`name` for its owner alone; replaces what a dead predecessor left."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    directory = os.open(runtime_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = f"/proc/self/fd/{directory}/{name}"
        if os.path.lexists(path):
            os.unlink(path)
        umask = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(umask)
        sock.listen(64)
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock
