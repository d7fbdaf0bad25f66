"""TCP sockets that listen, asked of the kernel by netlink (sock_diag(7)): in the network namespace of whoever asks.

Numbers are those of include/uapi/linux/inet_diag.h and sock_diag.h; anybody may ask.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLM_F_REQUEST, _NLM_F_DUMP, _NLMSG_ERROR, _NLMSG_DONE = 0x1, 0x300, 2, 3
_TCP_LISTEN = 10
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, pad, states, id
_SOCKET = struct.Struct("!4xHH16s")  # after family, state, timer, retransmits: source port, destination port, source
_INODE_AT = 4 + 48 + 16  # after these, the id, and expires, rqueue, wqueue, uid
_BUFFER = 1 << 16


@dataclass(frozen=True, slots=True)
class Listener:
    """inode: of the socket, as /proc/PID/fd shows it."""

    address: str
    port: int
    inode: int


def listeners() -> list[Listener]:
    """IPv4 and IPv6. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as sock:
        return [each for family in (socket.AF_INET, socket.AF_INET6) for each in _of(sock, family)]


def _of(sock: socket.socket, family: int) -> Iterator[Listener]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << _TCP_LISTEN)
    size = _HEADER.size + len(request)
    sock.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 0, 0) + request)
    while True:
        answer = sock.recv(_BUFFER)
        at = 0
        while at < len(answer):
            length, kind, *_ = _HEADER.unpack_from(answer, at)
            body = answer[at + _HEADER.size : at + length]
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0]
                if number == errno.ENOENT and family == socket.AF_INET6:
                    return  # this kernel has no IPv6
                raise OSError(number, "the kernel does not list sockets (sock_diag)")
            yield _listener(family, body)
            at += (length + 3) & ~3


def _listener(family: int, body: bytes) -> Listener:
    port, _, source = _SOCKET.unpack_from(body)
    address = ipaddress.ip_address(source[: 4 if family == socket.AF_INET else 16])
    return Listener(str(address), port, struct.unpack_from("=I", body, _INODE_AT)[0])
