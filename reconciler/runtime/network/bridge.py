"""The driver `bridge`: a bridge of the host for each network, and a veth pair to it for each container.

    container eth0 ══ veth ══ port of the bridge (its address is the containers' gateway) ── rules ── elsewhere

Everything of ours bears the owner in its name, links "rc" and six digits of it: nothing else is ever touched. A bridge
comes with the first container and goes with the last; so does the table of rules with the first and last bridge. Who
has which address is known from the record alone, and the rules are made of that (`addressing`, `table`).

A veth pair goes with the container's namespace, which the kernel takes down when it has time for it, and many at once;
to have one removed takes it 10 ms, in which no other link of the host can be made. So `detach` only cuts it off, and
what is not gone by itself soon is removed in the background, as is the bridge; the interpreter does not end before.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface
from pathlib import Path

from reconciler.errors import ReconcilerError, Retryable
from reconciler.runtime.kernel import rtnetlink, sysctls
from reconciler.runtime.kernel.netlink import Message
from reconciler.runtime.kernel.rtnetlink import Interface, Network, Rtnetlink
from reconciler.runtime.network import addressing, firewall, forwarding
from reconciler.runtime.network.addressing import GATEWAY, Bridge
from reconciler.runtime.network.definitions import BUILT_IN, Definition
from reconciler.runtime.network.driver import Attachment, Held, Request
from reconciler.runtime.network.firewall import Firewall
from reconciler.runtime.network.namespaces import Namespace, Namespaces

log = logging.getLogger(__name__)

NOTES = "forwarding.json"  # in ROOT
_MTU = 1500  # of a host without a default route
_BY_ITSELF = 0.25  # seconds in which a link goes with its namespace
_LOOK = 0.02
_LINGER = 0.5  # seconds that a bridge is kept for the next container: the last one may just be started anew, or the
# first one be on its way


class BridgeDriver:
    name = "bridge"

    def __init__(self, owner: str, root: Path, definitions: Sequence[Definition] = (Definition(BUILT_IN),)) -> None:
        self._owner = owner
        self._notes = root / NOTES
        self._mark = f"rc{owner[:6]}"
        self._definitions = {each.name: each for each in definitions}
        self._bridges: dict[str, Bridge] = {}  # by network
        self._firewall = Firewall(owner)
        self._leaving: dict[str, float] = {}  # link → when it is removed
        self._sweeping = False
        self._kept_until = 0.0
        self._lock = threading.Lock()

    def networks(self) -> Sequence[str]:
        return tuple(self._definitions)

    def check(self, request: Request) -> list[str]:
        definition = self._definitions[request.network]
        found = addressing.wrong(definition, request)
        if (why := firewall.lacking()) is not None:
            found.append(why)
        return found

    def foresee(self, request: Request) -> None:
        definition = self._definitions[request.network]
        if (definition.subnet is None and definition.subnet6 is None) or request.network in self._bridges:
            return
        with Rtnetlink() as here:
            if (why := addressing.collision(definition, self._taken(here))) is not None:
                raise Retryable(f"network {definition.name}: {why}")

    def recover(self, held: Sequence[Held]) -> None:
        """Links with our mark that no attachment stands for were left by an agent that died."""
        with self._lock, Rtnetlink() as here:
            links = {link.name: link for link in here.links()}
            self._bridges, known = {}, set[str]()
            for each in held:
                if each.attachment is not None:
                    self._remember(each.request, each.attachment, links)
                    known.update(each.attachment.links)
            known.update(bridge.link for bridge in self._bridges.values())
            for name in links.keys() - known:
                if name.startswith(self._mark):
                    _remove(here, name)
            try:
                self._enforce()
            except (OSError, ReconcilerError) as error:
                log.warning("networks are without their rules until they can be written: %s", error)

    def begin(self, request: Request) -> None:
        """The bridge, and the rules with it: most of what the first container on it would wait for. The thread then
        stays as the one that sweeps, should nobody come."""
        with self._lock:
            if request.network in self._bridges or self._sweeping:
                return
            self._sweeping = True
        threading.Thread(target=self._begin, args=(request.network,), name="network bridge", daemon=False).start()

    def _begin(self, network: str) -> None:
        with self._lock, contextlib.suppress(OSError, ReconcilerError):
            self._kept_until = time.monotonic() + _LINGER
            if network not in self._bridges:
                with Rtnetlink() as here:
                    self._made(here, network)
                self._enforce()
        self._sweep()

    def attach(self, request: Request, namespace: Namespace) -> Attachment:
        there = namespace.inside()
        with self._lock, Rtnetlink() as here:
            bridge = self._bridges.get(request.network) or self._made(here, request.network)
            number = bridge.number(request)
            bridge.used[number] = request
            addresses, gateways = bridge.at(number), [each.ip for each in bridge.at(GATEWAY)]
            link = bridge.links[request.container, request.ifname] = self._named(secrets.token_bytes(5))
            mac = _mac(addresses[0].ip.packed)
            master = here.index(bridge.link)
            here.carry_out(
                rtnetlink.veth(link, master=master, mtu=bridge.mtu, inside=request.ifname, netns=namespace.fd, mac=mac),
                rtnetlink.alias(link, f"reconciler {self._owner} {request.container} {request.ifname}"),
            )
            if (
                request.ports
            ):  # its own lead back to it, which a bridge that asks netfilter (br_netfilter) sees to itself
                here.carry_out(rtnetlink.port_reflects(here.index(link)))
            self._enforce()
        outward = request.default and not bridge.definition.internal
        index = there.index(request.ifname)
        routes = [rtnetlink.default_route(index, gateway) for gateway in gateways] if outward else []
        given = [rtnetlink.address(index, address) for address in addresses]
        there.carry_out(rtnetlink.up(index), *given, *routes)
        shown = tuple(map(str, gateways)) if outward else ()
        return Attachment(tuple(map(str, addresses)), shown, {}, (link,), bridge.details())

    def detach(self, request: Request, attachment: Attachment | None) -> None:
        with self._lock:
            if (bridge := self._bridges.get(request.network)) is None:
                return
            if (link := bridge.take_back(request)) is not None:
                with Rtnetlink() as here:
                    _cut_off(here, link)
                self._leaving[link] = time.monotonic() + _BY_ITSELF
            self._sweep_soon()
            self._enforce()

    def lacks(self, request: Request, attachment: Attachment, netns: str) -> str | None:
        with Rtnetlink() as here:
            gone = [name for name in (self._bridge_name(request.network), *attachment.links) if not here.has(name)]
        return f"the host has no link {' and no link '.join(gone)} any more" if gone else None

    def taken(
        self, request: Request, attachment: Attachment, here: Rtnetlink, inside: Rtnetlink
    ) -> tuple[list[Message], list[Message]]:
        """Links that are gone are no matter of this: `lacks`."""
        with self._lock:
            bridge = self._bridges.get(request.network)
        if bridge is None:
            return [], []
        links = {link.name: link for link in here.links()}
        if not {bridge.link, *attachment.links} <= links.keys():
            return [], []
        whole, own = links[bridge.link], [links[name] for name in attachment.links]
        ports = [rtnetlink.port_of(each.index, whole.index) for each in own if each.master != whole.index]
        on_the_host = [*ports, *(rtnetlink.up(each.index) for each in (whole, *own) if not each.up)]
        on_the_host += _addresses_taken(here, whole.index, bridge.at(GATEWAY))
        link = next((each for each in inside.links() if each.name == request.ifname), None)
        if link is None:
            return on_the_host, []
        there = [] if link.up else [rtnetlink.up(link.index)]
        there += _addresses_taken(inside, link.index, [ip_interface(each) for each in attachment.addresses])
        ways = {each.version for each in inside.routes() if each.to is None}  # whoever made them
        gateways = [ip_address(each) for each in attachment.gateways]
        there += [rtnetlink.default_route(link.index, each) for each in gateways if each.version not in ways]
        return on_the_host, there

    def mend(self) -> str | None:
        return self._firewall.mend() or self._firewall.mended()

    def _sweep_soon(self) -> None:
        self._kept_until = time.monotonic() + _LINGER
        if not self._sweeping:
            self._sweeping = True
            threading.Thread(target=self._sweep, name="network links", daemon=False).start()

    def _sweep(self) -> None:
        """Until all links that were to go are gone, and the bridge, if nobody is on it. What cannot be removed is left
        to the next one, in this agent's life or the next one's."""
        try:
            with Rtnetlink() as here:
                while not self._swept(here):
                    time.sleep(_LOOK)
                    self._remove_late(here)
        except (OSError, ReconcilerError) as error:
            log.warning("a link or the rules of a network could not be removed yet: %s", error)
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
            empty = [network for network, bridge in self._bridges.items() if not bridge.used]
            if empty and time.monotonic() < self._kept_until and threading.main_thread().is_alive():
                return False
            for network in empty:
                _remove(here, self._bridges[network].link)
                del self._bridges[network]
            if empty:
                self._enforce()
            self._sweeping = False
            return True

    def _made(self, here: Rtnetlink, network: str) -> Bridge:
        """Its bridge. Raises Retryable when there is no range for it."""
        definition = self._definitions.get(network)
        if definition is None:
            raise Retryable(f"there is no network {network} any more")
        link, taken = self._bridge_name(network), [*self._taken(here)]
        others = [each for bridge in self._bridges.values() for each in bridge.ranges()]
        reserved = [each.subnet for each in self._definitions.values() if each is not definition and each.subnet]
        free = addressing.free_range(definition, [*taken, *others, *reserved])
        ipv6 = addressing.range6(self._owner, definition) if _speaks_ipv6() else None
        made = Bridge(definition, link, definition.mtu or _mtu(here), free, ipv6)
        if not definition.internal:
            forwarding.enable(here, self._notes, ipv6=ipv6 is not None)
        _remove(here, link)  # half made, by a launch that failed
        here.carry_out(
            rtnetlink.bridge(link, mtu=made.mtu, mac=_mac(free[GATEWAY].packed)),
            rtnetlink.alias(link, f"reconciler {self._owner} network {network}"),
        )
        if ipv6 is not None:
            sysctls.write(f"net.ipv6.conf.{link}.accept_ra", "0")  # containers are no routers of the host's
        index = here.index(link)
        here.carry_out(*(rtnetlink.address(index, gateway) for gateway in made.at(GATEWAY)))
        self._bridges[network] = made
        return made

    def _enforce(self) -> None:
        """Have the rules be those of what is attached. With ports that are published, containers of a bridge are
        reached from this host's 127.0.0.1, too, once the rules guard the other way round."""
        bridges = [self._bridges[network] for network in sorted(self._bridges)]
        published = [each for bridge in bridges for each in bridge.published()]
        self._firewall.hold([bridge.segment() for bridge in bridges], published)
        for bridge in bridges:
            name, wanted = f"net.ipv4.conf.{bridge.link}.route_localnet", "1" if bridge.published() else "0"
            if sysctls.read(name) not in (wanted, None):
                sysctls.write(name, wanted)

    def _taken(self, here: Rtnetlink) -> list[Network]:
        """What the host has addresses in, or routes to, but for what is of ours."""
        ours = {link.index for link in here.links() if link.name.startswith(self._mark)}
        addresses = [each.network for index, each in here.addresses() if index not in ours and not each.is_link_local]
        routes = [each.to for each in here.routes() if each.to is not None and each.index not in ours]
        return [*addresses, *(each for each in routes if each.prefixlen and not each.is_link_local)]

    def _remember(self, request: Request, attachment: Attachment, links: dict[str, rtnetlink.Link]) -> None:
        bridge = self._bridges.get(request.network)
        if bridge is None:
            name = self._bridge_name(request.network)
            mtu = links[name].mtu if name in links else _MTU
            bridge = self._bridges[request.network] = addressing.recorded(name, mtu, request, attachment)
        bridge.remember(request, attachment)

    def _bridge_name(self, network: str) -> str:
        return self._named(hashlib.sha256(f"{self._owner}\0bridge\0{network}".encode()).digest())

    def _named(self, digest: bytes) -> str:
        """A link's name, 15 characters: the mark, and 35 bits. The kernel's own come and go when it likes, so that no
        two of them have one."""
        return self._mark + base64.b32encode(digest)[:7].decode().lower()


def lacking() -> str | None:
    """Why this kernel can make none; tried in a network namespace that nobody is in. Takes root."""
    namespaces = Namespaces()
    try:
        with contextlib.closing(namespaces.take().result()) as namespace:
            there, mac = namespace.inside(), _mac(bytes(4))
            there.carry_out(rtnetlink.bridge("bridge", mtu=_MTU, mac=mac))
            master = there.index("bridge")
            there.carry_out(rtnetlink.veth("port", master=master, mtu=_MTU, inside="eth0", netns=namespace.fd, mac=mac))
    except OSError as error:
        return f"this kernel makes no bridge with veth pairs: {error}"
    finally:
        namespaces.none()
    return None


def _addresses_taken(link: Rtnetlink, index: int, given: Sequence[Interface]) -> list[Message]:
    there = {each for at, each in link.addresses() if at == index}
    return [rtnetlink.address(index, each) for each in given if each not in there]


def _mac(packed: bytes) -> bytes:
    """Of an address, so that neighbours' tables stay true when a container comes back with the same one."""
    return b"\x02\x52" + packed


def _speaks_ipv6() -> bool:
    """Whether a new link may have an address of it: it is in the kernel, and nobody has turned it off."""
    return sysctls.read("net.ipv6.conf.default.disable_ipv6") == "0"


def _mtu(here: Rtnetlink) -> int:
    """Of the link that leads everywhere else."""
    sizes = {link.index: link.mtu for link in here.links()}
    ways = [each.index for each in here.routes() if each.to is None and each.index in sizes]
    return min((sizes[index] for index in ways if index is not None), default=_MTU)


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
