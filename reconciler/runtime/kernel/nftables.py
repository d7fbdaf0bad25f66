"""What netlink tells of nftables: whether a table is there, and when anybody has changed anything.

The kernel counts a generation up with each change of the rules of a network namespace, and tells those who listen.
Numbers: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h. Rules are written by nft(8): see `network.firewall`.
"""

from __future__ import annotations

import errno
import socket
import struct

from reconciler.runtime.kernel.netlink import Netlink, attribute, attributes

_NETLINK_NETFILTER, _SUBSYSTEM = 12, 10 << 8
_GETTABLE, _GETGEN = _SUBSYSTEM | 1, _SUBSYSTEM | 16
_INET, _UNSPEC = 1, 0
_TABLE_NAME, _GEN_ID = 1, 1
_SOL_NETLINK, _ADD_MEMBERSHIP, _CHANGES = 270, 1, 7


class Nftables(Netlink):
    """Questions about this network namespace."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER)

    def generation(self) -> int:
        """Raises OSError where the kernel has no nftables."""
        found: int = struct.unpack("!I", attributes(self.ask(_GETGEN, _of(_UNSPEC))[4:])[_GEN_ID])[0]
        return found

    def has(self, table: str) -> bool:
        """Of the family inet. False, too, where the kernel has no nftables."""
        try:
            self.ask(_GETTABLE, _of(_INET) + attribute(_TABLE_NAME, table.encode() + b"\0"))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
                return False
            raise
        return True


class Changes(Netlink):
    """Hears of every change from now on."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _CHANGES)

    def wait(self) -> None:
        """Until there was one, or several, or more than could be told."""
        self._socket.settimeout(None)
        try:
            self._socket.recv(1 << 16)
            self._socket.settimeout(0)
            while True:
                self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise


def _of(family: int) -> bytes:
    """struct nfgenmsg."""
    return struct.pack("=BBH", family, 0, socket.htons(0))
