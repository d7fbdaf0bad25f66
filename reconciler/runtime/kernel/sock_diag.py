"""Sockets that listen, asked of the kernel by netlink (sock_diag(7)): in the network namespace of whoever asks.

Numbers are those of include/uapi/linux/inet_diag.h and sock_diag.h; anybody may ask.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.runtime.kernel.netlink import Netlink

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_WAITING = {socket.IPPROTO_TCP: 1 << 10, socket.IPPROTO_UDP: 1 << 7}  # TCP_LISTEN; TCP_CLOSE: not connected
_REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, pad, states, id
_SOCKET = struct.Struct("!4xHH16s")  # after family, state, timer, retransmits: source port, destination port, source
_INODE_AT = 4 + 48 + 16  # after these, the id, and expires, rqueue, wqueue, uid


@dataclass(frozen=True, slots=True)
class Listener:
    """inode: of the socket, as /proc/PID/fd shows it."""

    address: str
    port: int
    inode: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def listeners(protocol: int = socket.IPPROTO_TCP) -> list[Listener]:
    """IPv4 and IPv6; of UDP all that are bound and not connected. Raises OSError."""
    with Netlink(_NETLINK_SOCK_DIAG) as asked:
        return [each for family in (socket.AF_INET, socket.AF_INET6) for each in _of(asked, family, protocol)]


def holders(pids: Iterable[int]) -> dict[int, int]:
    """Inode → a process that has it open. One that ended, or whose descriptors are not ours to see, has none."""
    found: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = str(Path(entry.path).readlink())
                    if target.startswith("socket:["):
                        found.setdefault(int(target[8:-1]), pid)
    return found


def _of(asked: Netlink, family: int, protocol: int) -> Iterator[Listener]:
    request = _REQUEST.pack(family, protocol, 0, 0, _WAITING[protocol])
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
