"""The driver `bridge`: a bridge of the host, and a veth pair to it for each container.

    container eth0 ══ veth ══ port of the bridge (its address is the containers' gateway)

Everything of ours bears the owner in its name, "rc" and six digits of it: nothing else is ever touched. The range is
the first that collides with nothing on the host; each container has the same number in it for IPv4 and IPv6. The
bridge comes with the first container and goes with the last. Who has which address is known from the record alone.

A veth pair goes with the container's namespace, which the kernel takes down when it has time for it, and many at once;
to have one removed takes it 10 ms, in which no other link of the host can be made. So `detach` only cuts it off, and
what is not gone by itself soon is removed in the background, as is the bridge; the interpreter does not end before.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_interface
from pathlib import Path

from reconciler.errors import Retryable
from reconciler.runtime.kernel import rtnetlink, sysctls
from reconciler.runtime.kernel.rtnetlink import Interface, Rtnetlink
from reconciler.runtime.network.driver import Attachment, Held, Request
from reconciler.runtime.network.namespaces import Namespace
from reconciler.states import Reason

log = logging.getLogger(__name__)

NETWORK = "bridge"
_POOL = IPv4Network("10.213.0.0/16")
_PREFIX = 22
_GATEWAY = 1
_MTU = 1500
_BY_ITSELF = 0.25  # seconds in which a link goes with its namespace
_LOOK = 0.02
_LINGER = 0.5  # seconds that a bridge is kept for the next container: the last one may just be started anew


@dataclass(slots=True)
class _Bridge:
    """range6: None on a host without IPv6. used: number in the range → container. links: (container, interface
    inside) → the host's end."""

    range: IPv4Network
    range6: IPv6Network | None
    used: dict[int, str] = field(default_factory=dict)
    links: dict[tuple[str, str], str] = field(default_factory=dict)

    def at(self, number: int) -> list[Interface]:
        """Its addresses, IPv4 first."""
        ranges = (self.range, self.range6)
        return [ip_interface(f"{each[number]}/{each.prefixlen}") for each in ranges if each is not None]


class BridgeDriver:
    name = "bridge"

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._mark = f"rc{owner[:6]}"
        self._bridge_name = self._named(hashlib.sha256(f"{owner}\0bridge\0{NETWORK}".encode()).digest())
        self._bridge: _Bridge | None = None
        self._leaving: dict[str, float] = {}  # link → when it is removed
        self._sweeping = False
        self._kept_until = 0.0
        self._lock = threading.Lock()

    def networks(self) -> Sequence[str]:
        return (NETWORK,)

    def check(self, request: Request) -> list[str]:
        if request.ip is None:
            return []
        try:
            wanted = ip_address(request.ip)
        except ValueError:
            return [f"{request.ip!r} is no address"]
        if not isinstance(wanted, IPv4Address) or wanted not in _POOL:
            return [f"{request.ip} is not of the network's: an address of {_POOL} can be asked for"]
        return []

    def recover(self, held: Sequence[Held]) -> None:
        """Links with our mark that no attachment stands for were left by an agent that died."""
        with self._lock, Rtnetlink() as here:
            self._bridge, known = None, set[str]()
            for each in held:
                if each.attachment is not None:
                    self._remember(each.request, each.attachment)
                    known.update(each.attachment.links)
            for link in here.links():
                bridge = link.name == self._bridge_name
                if link.name.startswith(self._mark) and link.name not in known and not (bridge and self._bridge):
                    _remove(here, link.name)

    def attach(self, request: Request, namespace: Namespace) -> Attachment:
        there = namespace.inside()
        with self._lock, Rtnetlink() as here:
            bridge = self._bridge or self._made(here)
            number = self._number(bridge, request)
            bridge.used[number] = request.container
            addresses, gateways = bridge.at(number), [each.ip for each in bridge.at(_GATEWAY)]
            link = bridge.links[request.container, request.ifname] = self._named(secrets.token_bytes(5))
            mac = _mac(addresses[0].ip.packed)
            master = here.index(self._bridge_name)
            here.carry_out(
                rtnetlink.veth(link, master=master, mtu=_MTU, inside=request.ifname, netns=namespace.fd, mac=mac),
                rtnetlink.alias(link, f"reconciler {self._owner} {request.container} {request.ifname}"),
            )
        index = there.index(request.ifname)
        routes = [rtnetlink.default_route(index, gateway) for gateway in gateways] if request.default else []
        given = [rtnetlink.address(index, address) for address in addresses]
        there.carry_out(rtnetlink.up(index), *given, *routes)
        shown = tuple(map(str, gateways)) if request.default else ()
        return Attachment(tuple(map(str, addresses)), shown, {}, (link,))

    def detach(self, request: Request, attachment: Attachment | None) -> None:
        with self._lock:
            if (bridge := self._bridge) is None:
                return
            bridge.used = {number: name for number, name in bridge.used.items() if name != request.container}
            if (link := bridge.links.pop((request.container, request.ifname), None)) is not None:
                with Rtnetlink() as here:
                    _cut_off(here, link)
                self._leaving[link] = time.monotonic() + _BY_ITSELF
            self._kept_until = time.monotonic() + _LINGER
            if not self._sweeping:
                self._sweeping = True
                threading.Thread(target=self._sweep, name="network links").start()

    def lacks(self, request: Request, attachment: Attachment, netns: str) -> str | None:
        with Rtnetlink() as here:
            gone = [name for name in (self._bridge_name, *attachment.links) if not here.has(name)]
        return f"the host has no link {' and no link '.join(gone)} any more" if gone else None

    def _sweep(self) -> None:
        """Until all links that were to go are gone, and the bridge, if nobody is on it. What cannot be removed is left
        to the next one, in this agent's life or the next one's."""
        try:
            with Rtnetlink() as here:
                while not self._swept(here):
                    time.sleep(_LOOK)
                    self._remove_late(here)
        except OSError as error:
            log.warning("network %s: a link could not be removed yet: %s", NETWORK, error)
            with self._lock:
                self._sweeping = False

    def _remove_late(self, here: Rtnetlink) -> None:
        """The lock is not held: others need not wait for it."""
        now = time.monotonic()
        for link, until in list(self._leaving.items()):
            if now >= until:
                _remove(here, link)
            elif here.has(link):
                continue
            self._leaving.pop(link)

    def _swept(self, here: Rtnetlink) -> bool:
        with self._lock:
            if self._leaving:
                return False
            if self._bridge is not None and not self._bridge.used:
                if time.monotonic() < self._kept_until and threading.main_thread().is_alive():
                    return False
                _remove(here, self._bridge_name)
                self._bridge = None
            self._sweeping = False
            return True

    def _made(self, here: Rtnetlink) -> _Bridge:
        """The bridge, with the first range that is free. Raises Retryable when none is."""
        name, taken = self._bridge_name, list(_taken(here))
        free = next((each for each in _POOL.subnets(new_prefix=_PREFIX) if not any(map(each.overlaps, taken))), None)
        if free is None:
            clash = next(each for each in taken if each.overlaps(_POOL))
            raise Retryable(f"network {NETWORK}: all of {_POOL} collides with {clash} of this host")
        made = _Bridge(free, _range6(self._owner) if _speaks_ipv6() else None)
        _remove(here, name)  # half made, by a launch that failed
        here.carry_out(
            rtnetlink.bridge(name, mtu=_MTU, mac=_mac(free[_GATEWAY].packed)),
            rtnetlink.alias(name, f"reconciler {self._owner} network {NETWORK}"),
        )
        index = here.index(name)
        here.carry_out(*(rtnetlink.address(index, gateway) for gateway in made.at(_GATEWAY)))
        self._bridge = made
        return made

    def _number(self, bridge: _Bridge, request: Request) -> int:
        last = bridge.range.num_addresses - 2
        if request.ip is None:
            for number in range(_GATEWAY + 1, last + 1):
                if number not in bridge.used:
                    return number
            raise Retryable(f"network {NETWORK}: all {last - 1} addresses of {bridge.range} are taken")
        number = int(IPv4Address(request.ip)) - int(bridge.range.network_address)
        if not _GATEWAY < number <= last:
            raise Retryable(f"network {NETWORK}: {request.ip} is not among the addresses of {bridge.range} at present")
        if (other := bridge.used.get(number)) is not None:
            raise Retryable(f"network {NETWORK}: {request.ip} is that of {other}", Reason.LAUNCH_FAILED)
        return number

    def _remember(self, request: Request, attachment: Attachment) -> None:
        first, *others = (ip_interface(each).network for each in attachment.addresses)
        assert isinstance(first, IPv4Network)
        range6 = next((each for each in others if isinstance(each, IPv6Network)), None)
        bridge = self._bridge = self._bridge or _Bridge(first, range6)
        number = int(ip_interface(attachment.addresses[0]).ip) - int(first.network_address)
        bridge.used[number] = request.container
        bridge.links[request.container, request.ifname] = attachment.links[0]

    def _named(self, digest: bytes) -> str:
        """A link's name, 15 characters: the mark, and 35 bits. The kernel's own come and go when it likes, so that no
        two of them have one."""
        return self._mark + base64.b32encode(digest)[:7].decode().lower()


def _mac(packed: bytes) -> bytes:
    """Of an address, so that neighbours' tables stay true when a container comes back with the same one."""
    return b"\x02\x52" + packed


def _range6(owner: str) -> IPv6Network:
    """A unique local one (RFC 4193), of the owner."""
    return IPv6Network((b"\xfd" + hashlib.sha256(owner.encode()).digest()[:7] + bytes(8), 64))


def _speaks_ipv6() -> bool:
    """Whether a new link may have an address of it: it is in the kernel, and nobody has turned it off."""
    try:
        return Path(sysctls.path("net.ipv6.conf.default.disable_ipv6")).read_text().strip() == "0"
    except FileNotFoundError:
        return False


def _taken(here: Rtnetlink) -> Iterator[IPv4Network]:
    """What the host has addresses in, or routes to."""
    for _, address in here.addresses():
        if isinstance(address.network, IPv4Network):
            yield address.network
    for route in here.routes():
        if isinstance(route.to, IPv4Network) and route.to.prefixlen:
            yield route.to


def _remove(here: Rtnetlink, name: str) -> None:
    try:
        here.carry_out(rtnetlink.removal(name))
    except OSError as error:
        if not rtnetlink.missing(error):
            raise


def _cut_off(here: Rtnetlink, link: str) -> None:
    """Its address may be another's from now on. One that is not on a bridge any more is no port."""
    try:
        here.carry_out(rtnetlink.port_disabled(here.index(link)))
    except OSError as error:
        if not rtnetlink.missing(error) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
