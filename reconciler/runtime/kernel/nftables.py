"""What netlink tells of nftables: whether a table is there, what is in it, and when anybody has changed anything.

The kernel counts a generation up with each change of the rules of a network namespace, and tells those who listen.
Numbers: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h. Rules are written by `libnftables`.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import struct

from reconciler.runtime.kernel.netlink import Netlink, attribute, attributes

_NETLINK_NETFILTER, _SUBSYSTEM = 12, 10 << 8
_GETTABLE, _GETCHAIN, _GETRULE, _GETGEN = (_SUBSYSTEM | each for each in (1, 4, 7, 16))
_INET, _UNSPEC = 1, 0
_TABLE_NAME, _OF_TABLE, _GEN_ID = 1, 1, 1
_HEAD = 4  # bytes of struct nfgenmsg, in which there is part of the generation
_SOL_NETLINK, _ADD_MEMBERSHIP, _CHANGES = 270, 1, 7


class Nftables(Netlink):
    """Questions about this network namespace."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER)

    def generation(self) -> int:
        """Raises OSError where the kernel has no nftables."""
        found: int = struct.unpack("!I", attributes(self.ask(_GETGEN, _of(_UNSPEC))[_HEAD:])[_GEN_ID])[0]
        return found

    def contents(self, table: str) -> bytes | None:
        """A digest of the table of that name, of the family inet, with its chains and rules; the sets that rules look
        into without a name cannot be changed. None if it is not there, or the kernel has no nftables."""
        name = table.encode() + b"\0"
        found = hashlib.sha256()
        try:
            found.update(self.ask(_GETTABLE, _of(_INET) + attribute(_TABLE_NAME, name))[_HEAD:])
            for kind in (_GETCHAIN, _GETRULE):
                for body in self.dump(kind, _of(_INET) + attribute(_OF_TABLE, name)):
                    if attributes(body[_HEAD:])[_OF_TABLE] == name:
                        found.update(body[_HEAD:])
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
                return None
            raise
        return found.digest()


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
