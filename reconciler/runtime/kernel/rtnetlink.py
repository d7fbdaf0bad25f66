"""rtnetlink(7): links, addresses and routes. A launch with a network makes about ten of these messages.

Layouts: include/uapi/linux/{rtnetlink,if_link,if_addr,veth}.h.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address

from reconciler.runtime.kernel.netlink import Message, Netlink, attribute, attributes

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

_EXCL, _CREATE = 0x200, 0x400
_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 20, 22, 24, 26

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_PROTINFO, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD = 12, 18, 20, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER, _IFLA_BRPORT_STATE, _IFLA_BRPORT_MODE = 1, 2, 1, 1, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_NESTED = 0x8000

IFF_UP = 1
_IFA_F_NODAD = 0x02
RTPROT_RA = 9
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, _RTM_F_CLONED = 254, 4, 0, 1, 0x200
_SIOCGIFINDEX = 0x8933


@dataclass(frozen=True, slots=True)
class Link:
    """master: index of the bridge it is a port of; kind: "veth", "bridge", …, "" for hardware; peer: index of what it
    lies on, or of its other end, in whichever namespace that is."""

    index: int
    name: str
    kind: str
    alias: str
    master: int | None
    up: bool
    mtu: int
    peer: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """to None: everywhere. protocol: who made it, RTPROT_*. version: of IP."""

    to: Network | None
    index: int | None
    table: int
    protocol: int
    version: int


class Rtnetlink(Netlink):
    """Questions about this network namespace, and what is carried out in it."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE)

    def index(self, name: str) -> int:
        """Of a link of this namespace. Raises OSError (ENODEV)."""
        request = struct.pack("16s24x", name.encode())
        found: int = struct.unpack_from("=i", fcntl.ioctl(self._socket, _SIOCGIFINDEX, request), 16)[0]
        return found

    def has(self, name: str) -> bool:
        """Whether there is a link of that name."""
        try:
            return bool(self.index(name))
        except OSError as error:
            if missing(error):
                return False
            raise

    def links(self) -> list[Link]:
        found = []
        for body in self.dump(_GETLINK, _link()):
            _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
            told = attributes(body[16:])
            info = attributes(told.get(_IFLA_LINKINFO, b""))
            master, peer = told.get(_IFLA_MASTER), told.get(_IFLA_LINK)
            found.append(
                Link(
                    index,
                    _text(told[_IFLA_IFNAME]),
                    _text(info.get(_INFO_KIND, b"")),
                    _text(told.get(_IFLA_IFALIAS, b"")),
                    struct.unpack("=I", master)[0] if master else None,
                    bool(flags & IFF_UP),
                    struct.unpack("=I", told[_IFLA_MTU])[0],
                    struct.unpack("=I", peer)[0] if peer else None,
                )
            )
        return found

    def addresses(self) -> list[tuple[int, Interface]]:
        """(index of the link, address with its prefix)."""
        found: list[tuple[int, Interface]] = []
        for body in self.dump(_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
            _, prefix, _, _, index = struct.unpack_from("=BBBBi", body)
            told = attributes(body[8:])
            address = ip_address(told.get(_IFA_LOCAL) or told[_IFA_ADDRESS])
            interface = IPv4Interface if isinstance(address, IPv4Address) else IPv6Interface
            found.append((index, interface(f"{address}/{prefix}")))
        return found

    def routes(self) -> list[Route]:
        found = []
        for body in self.dump(_GETROUTE, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0)):
            family, prefix, _, _, table, protocol, _, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
            if kind != _RTN_UNICAST or flags & _RTM_F_CLONED:
                continue
            told = attributes(body[12:])
            to, link = told.get(_RTA_DST), told.get(_RTA_OIF)
            if _RTA_TABLE in told:
                table = struct.unpack("=I", told[_RTA_TABLE])[0]
            network = _network(ip_address(to), prefix) if to else None
            index, version = struct.unpack("=I", link)[0] if link else None, 4 if family == socket.AF_INET else 6
            found.append(Route(network, index, table, protocol, version))
        return found


# ---- messages


def bridge(name: str, *, mtu: int, mac: bytes) -> Message:
    """A new bridge, up."""
    info = attribute(_IFLA_LINKINFO | _NESTED, attribute(_INFO_KIND, b"bridge"))
    named = _named(name) + attribute(_IFLA_MTU, struct.pack("=I", mtu)) + attribute(_IFLA_ADDRESS, mac)
    return f"bridge {name}", _NEWLINK, _CREATE | _EXCL, _link(up=True) + named + info


def veth(name: str, *, master: int, mtu: int, inside: str, netns: int, mac: bytes) -> Message:
    """A new pair: one end is up and a port of the bridge, the other in that network namespace, with that address, and
    down: while the pair is made there is nobody to be up with."""
    size = attribute(_IFLA_MTU, struct.pack("=I", mtu))
    peer = _link() + _named(inside) + size + attribute(_IFLA_NET_NS_FD, struct.pack("=I", netns))
    data = attribute(_INFO_DATA | _NESTED, attribute(_VETH_INFO_PEER | _NESTED, peer + attribute(_IFLA_ADDRESS, mac)))
    info = attribute(_IFLA_LINKINFO | _NESTED, attribute(_INFO_KIND, b"veth") + data)
    ours = _named(name) + size + attribute(_IFLA_MASTER, struct.pack("=I", master))
    return f"veth {name}", _NEWLINK, _CREATE | _EXCL, _link(up=True) + ours + info


def alias(name: str, text: str) -> Message:
    return f"alias of {name}", _SETLINK, 0, _link() + _named(name) + attribute(_IFLA_IFALIAS, text.encode())


def up(index: int) -> Message:
    return "up", _SETLINK, 0, struct.pack("=BxHiII", 0, 0, index, IFF_UP, IFF_UP)


def port_of(index: int, master: int) -> Message:
    """A port of that bridge."""
    head = struct.pack("=BxHiII", 0, 0, index, 0, 0)
    return "port of a bridge", _SETLINK, 0, head + attribute(_IFLA_MASTER, struct.pack("=I", master))


def port_disabled(index: int) -> Message:
    """Nothing goes in or out by this port of a bridge any more (BR_STATE_DISABLED)."""
    return "end of a port", _SETLINK, 0, _port(index, _IFLA_BRPORT_STATE, 0)


def port_reflects(index: int) -> Message:
    """What comes in by this port of a bridge may go out by it (hairpin mode)."""
    return "reflection by a port", _SETLINK, 0, _port(index, _IFLA_BRPORT_MODE, 1)


def removal(name: str) -> Message:
    return f"removal of {name}", _DELLINK, 0, _link() + _named(name)


def address(index: int, given: Interface) -> Message:
    """Used at once: no waiting for others that might have it (duplicate address detection)."""
    packed = given.ip.packed
    head = struct.pack("=BBBBi", _family(given.ip), given.network.prefixlen, _IFA_F_NODAD, 0, index)
    payload = head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    return f"address {given}", _NEWADDR, _CREATE | _EXCL, payload


def default_route(index: int, gateway: Address) -> Message:
    kinds = (_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST)
    head = struct.pack("=BBBBBBBBI", _family(gateway), 0, 0, 0, *kinds, 0)
    payload = head + attribute(_RTA_GATEWAY, gateway.packed) + attribute(_RTA_OIF, struct.pack("=I", index))
    return f"default route by {gateway}", _NEWROUTE, _CREATE | _EXCL, payload


def missing(error: OSError) -> bool:
    """There is no such link any more."""
    return error.errno in (errno.ENODEV, errno.ENXIO)


def _family(given: Address) -> int:
    return socket.AF_INET if isinstance(given, IPv4Address) else socket.AF_INET6


def _network(given: Address, prefix: int) -> Network:
    return IPv4Network((given, prefix)) if isinstance(given, IPv4Address) else IPv6Network((given, prefix))


def _link(*, up: bool = False) -> bytes:
    """struct ifinfomsg."""
    flag = IFF_UP if up else 0
    return struct.pack("=BxHiII", 0, 0, 0, flag, flag)


def _port(index: int, setting: int, value: int) -> bytes:
    set_to = attribute(_IFLA_PROTINFO | _NESTED, attribute(setting, bytes([value])))
    return struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index, 0, 0) + set_to


def _named(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
