"""Which addresses networks have, and which containers on them. Pure.

A network has a range of IPv4 and, on a host that speaks it, one of IPv6; a container has the same number in both, the
lowest that nobody has or that of the IPv4 address it asks for. Number 1 is the bridge itself, the containers' gateway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_interface

from reconciler.errors import Retryable
from reconciler.runtime.kernel.rtnetlink import Interface, Network
from reconciler.runtime.network.definitions import Definition
from reconciler.runtime.network.driver import Attachment, Request
from reconciler.runtime.network.table import Publication, Segment, publications

POOL = IPv4Network("10.213.0.0/16")
GATEWAY = 1
_PREFIX = 22


@dataclass(slots=True)
class Bridge:
    """A network that is there. link: the bridge. range6: None on a host without IPv6. used: number in the ranges →
    whose it is. links: (container, interface inside) → the host's end."""

    definition: Definition
    link: str
    mtu: int
    range: IPv4Network
    range6: IPv6Network | None
    used: dict[int, Request] = field(default_factory=dict)
    links: dict[tuple[str, str], str] = field(default_factory=dict)

    def at(self, number: int) -> list[Interface]:
        """Its addresses, IPv4 first."""
        return [ip_interface(f"{each[number]}/{each.prefixlen}") for each in self.ranges()]

    def ranges(self) -> list[IPv4Network | IPv6Network]:
        return [self.range] if self.range6 is None else [self.range, self.range6]

    def segment(self) -> Segment:
        given = self.definition
        return Segment(self.link, tuple(self.ranges()), given.internal, given.masquerade)

    def published(self) -> list[Publication]:
        return [
            each
            for number, request in sorted(self.used.items())
            for each in publications(request.ports, [address.ip for address in self.at(number)])
        ]

    def number(self, request: Request) -> int:
        """One for it. Raises Retryable when there is none."""
        network, last = self.definition.name, self.range.num_addresses - 2
        if request.ip is None:
            for number in range(GATEWAY + 1, last + 1):
                if number not in self.used:
                    return number
            raise Retryable(f"network {network}: all {last - 1} addresses of {self.range} are taken")
        number = int(IPv4Address(request.ip)) - int(self.range.network_address)
        if not GATEWAY < number <= last:
            raise Retryable(f"network {network}: {request.ip} is not among the addresses of {self.range} at present")
        if (other := self.used.get(number)) is not None:
            raise Retryable(f"network {network}: {request.ip} is that of {other.container}")
        return number

    def take_back(self, request: Request) -> str | None:
        """Its number is free again; the host's end of its link."""
        self.used = {
            number: each
            for number, each in self.used.items()
            if (each.container, each.ifname) != (request.container, request.ifname)
        }
        return self.links.pop((request.container, request.ifname), None)

    def remember(self, request: Request, attachment: Attachment) -> None:
        number = int(ip_interface(attachment.addresses[0]).ip) - int(self.range.network_address)
        self.used[number] = request
        self.links[request.container, request.ifname] = attachment.links[0]

    def details(self) -> dict[str, bool]:
        """What a record has of it; see `recorded`."""
        return {"internal": self.definition.internal, "masquerade": self.definition.masquerade}


def recorded(link: str, mtu: int, request: Request, attachment: Attachment) -> Bridge:
    """The bridge as it was when that was attached, whatever is configured now."""
    first, *others = (ip_interface(each).network for each in attachment.addresses)
    assert isinstance(first, IPv4Network)
    range6 = next((each for each in others if isinstance(each, IPv6Network)), None)
    details = attachment.details
    internal, masquerade = bool(details.get("internal", False)), bool(details.get("masquerade", True))
    return Bridge(Definition(request.network, internal=internal, masquerade=masquerade), link, mtu, first, range6)


def free_range(definition: Definition, taken: Sequence[Network]) -> IPv4Network:
    """The one that is configured, or the first of the pool. taken: what the host has, other networks included. Raises
    Retryable, saying what is in the way."""
    if (why := collision(definition, taken)) is not None:
        raise Retryable(f"network {definition.name}: {why}")
    if definition.subnet is not None:
        return definition.subnet
    free = next((each for each in POOL.subnets(new_prefix=_PREFIX) if not _clash(each, taken)), None)
    if free is None:
        clash = _clash(POOL, taken)
        raise Retryable(f"network {definition.name}: all of {POOL} collides with {clash} of this host")
    return free


def collision(definition: Definition, taken: Sequence[Network]) -> str | None:
    """Why a range that is configured cannot be had."""
    for subnet in (definition.subnet, definition.subnet6):
        if subnet is not None and (clash := _clash(subnet, taken)) is not None:
            return f"its range {subnet} collides with {clash} of this host"
    return None


def range6(owner: str, definition: Definition) -> IPv6Network:
    """The one that is configured, or a unique local one (RFC 4193) of the owner and the network."""
    if definition.subnet6 is not None:
        return definition.subnet6
    digest = hashlib.sha256(f"{owner}\0{definition.name}".encode()).digest()
    return IPv6Network((b"\xfd" + digest[:7] + bytes(8), 64))


def wrong(definition: Definition, request: Request) -> list[str]:
    """What of a request the network can never give, a sentence each."""
    found = []
    if request.ip is not None:
        wanted, of = _parsed(request.ip), definition.subnet or POOL
        if wanted is None:
            found.append(f"{request.ip!r} is no address")
        elif wanted not in of:
            found.append(f"{request.ip} is not of the network's: an address of {of} can be asked for")
    if request.ports and definition.internal:
        found.append("it is internal, so that no port of it is published")
    return found


def _parsed(text: str) -> object:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _clash(wanted: Network, taken: Iterable[Network]) -> Network | None:
    return next((each for each in taken if each.version == wanted.version and _overlap(wanted, each)), None)


def _overlap(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)
