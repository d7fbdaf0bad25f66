"""Our table of nftables, as text for nft(8), from the networks that there are and the ports that they publish. Pure.

    from elsewhere ─▶ to_containers, ports ─▶ (routing) ─▶ forward ─▶ leaving ─▶ a bridge, or elsewhere
    from this host ─▶ from_host, ports     ─▶ (routing) ────────────▶ leaving ─▶ a bridge

One table of the family inet, put in the place of what there was of it in a single transaction. It says what becomes of
packets of our bridges, and nothing of any other. A verdict `accept` of ours binds nobody else: what another table
drops is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from reconciler.runtime.network.driver import Port

_ANY = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Segment:
    """A network: its bridge, and what its containers' addresses are of.

    internal:    nothing leads out of it, and nothing into it
    masquerade:  who leaves it appears as this host; else it is routed, and can be reached from elsewhere
    """

    bridge: str
    ranges: tuple[IPv4Network | IPv6Network, ...]
    internal: bool = False
    masquerade: bool = True


@dataclass(frozen=True, slots=True)
class Publication:
    """A port of this host that leads to a container's address."""

    port: Port
    to: IPv4Address | IPv6Address


def ruleset(table: str, comment: str, segments: Sequence[Segment], published: Iterable[Publication]) -> str:
    """Without a network: that there is no such table."""
    lines = [f"add table inet {table}", f"delete table inet {table}"]
    if segments:
        lines += [f"table inet {table} {{", f'  comment "{comment}"']
        for head, rules in _chains(segments, published):
            lines += ["", f"  chain {head}", *(f"    {rule}" for rule in rules), "  }"]
        lines.append("}")
    return "\n".join(lines) + "\n"


def _chains(segments: Sequence[Segment], published: Iterable[Publication]) -> Iterator[tuple[str, Iterable[str]]]:
    to_this_host = ["fib daddr type local jump ports"]
    yield "ports {", [_to_a_container(each) for each in published]
    yield "to_containers { type nat hook prerouting priority -100; policy accept;", to_this_host
    yield "from_host { type nat hook output priority -100; policy accept;", to_this_host
    yield "no_strangers { type filter hook prerouting priority -300; policy accept;", _no_strangers(segments)
    yield "forward { type filter hook forward priority 0; policy accept;", _forward(segments)
    yield "leaving { type nat hook postrouting priority 100; policy accept;", _leaving(segments)


def _to_a_container(published: Publication) -> str:
    port, family = published.port, _family(published.to)
    where = f"meta nfproto {'ipv4' if family == 'ip' else 'ipv6'}"
    if port.host_ip is not None and port.host_ip not in _ANY:
        where = f"{family} daddr {port.host_ip}"
    to = f"[{published.to}]" if family == "ip6" else published.to
    return f"{where} {port.protocol} dport {port.host} dnat {family} to {to}:{port.container}"


def _no_strangers(segments: Sequence[Segment]) -> list[str]:
    """A bridge over which this host's 127.0.0.1 reaches containers (route_localnet) lets them reach it in turn, and
    what listens there counts on being alone. CVE-2020-8558."""
    ours = _names(segments)
    return [f"iifname {ours} ip {side} 127.0.0.0/8 drop" for side in ("saddr", "daddr")]


def _forward(segments: Sequence[Segment]) -> Iterator[str]:
    """Into a network come answers, and what was sent to a port that it publishes; it is nobody's way elsewhere."""
    yield "ct state established,related accept"
    yield "ct status dnat accept"
    for each in segments:
        yield f'iifname "{each.bridge}" oifname "{each.bridge}" accept'
    yield f"iifname {_names(segments)} oifname {_names(segments)} drop"
    if internal := [each for each in segments if each.internal]:
        yield f"iifname {_names(internal)} drop"
    if closed := [each for each in segments if each.internal or each.masquerade]:
        yield f"oifname {_names(closed)} drop"


def _leaving(segments: Sequence[Segment]) -> Iterator[str]:
    """Whose answer must come back by this host appears as this host: who leaves, who reaches a container of the same
    network by a published port, and this host's loopback."""
    for each in segments:
        for range in each.ranges:
            family, bridge = _family(range.network_address), f'"{each.bridge}"'
            if each.masquerade:
                yield f"{family} saddr {range} oifname != {bridge} masquerade"
            yield f"{family} saddr {range} oifname {bridge} ct status dnat masquerade"
        yield f'ip saddr 127.0.0.0/8 oifname "{each.bridge}" masquerade'


def publications(ports: Iterable[Port], addresses: Iterable[IPv4Address | IPv6Address]) -> Iterator[Publication]:
    """Each port once for each of a container's addresses that it can lead to."""
    reachable = list(addresses)
    for port in ports:
        for to in reachable:
            if port.host_ip is None or ip_address(port.host_ip).version == to.version:
                yield Publication(port, to)


def _names(segments: Iterable[Segment]) -> str:
    return "{ " + ", ".join(f'"{each.bridge}"' for each in segments) + " }"


def _family(address: IPv4Address | IPv6Address) -> str:
    return "ip" if address.version == 4 else "ip6"
