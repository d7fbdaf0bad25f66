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

from reconciler.runtime.kernel.netlink import Netlink

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_TCP_LISTEN = 10
_REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, pad, states, id
_SOCKET = struct.Struct("!4xHH16s")  # after family, state, timer, retransmits: source port, destination port, source
_INODE_AT = 4 + 48 + 16  # after these, the id, and expires, rqueue, wqueue, uid


@dataclass(frozen=True, slots=True)
class Listener:
    """inode: of the socket, as /proc/PID/fd shows it."""

    address: str
    port: int
    inode: int


def listeners() -> list[Listener]:
    """IPv4 and IPv6. Raises OSError."""
    with Netlink(_NETLINK_SOCK_DIAG) as asked:
        return [each for family in (socket.AF_INET, socket.AF_INET6) for each in _of(asked, family)]


def _of(asked: Netlink, family: int) -> Iterator[Listener]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << _TCP_LISTEN)
    try:
        for body in asked.dump(_SOCK_DIAG_BY_FAMILY, request):
            yield _listener(family, body)
    except OSError as error:
        if error.errno == errno.ENOENT and family == socket.AF_INET6:
            return  # this kernel has no IPv6
        raise OSError(error.errno, "the kernel does not list sockets (sock_diag)") from error


def _listener(family: int, body: bytes) -> Listener:
    port, _, source = _SOCKET.unpack_from(body)
    address = ipaddress.ip_address(source[: 4 if family == socket.AF_INET else 16])
    return Listener(str(address), port, struct.unpack_from("=I", body, _INODE_AT)[0])
