"""What /etc/hosts and /etc/resolv.conf of a pod say. Pure.

A pod is a container with a network namespace of its own and all that is nested in it. On each network it knows the
others by the names of their containers and by their host names; a host name that is a container's name elsewhere is
left out, so that nobody takes another's. One name a line: musl reads no more than 512 bytes of one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_LOOPBACK = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_OWN = "127.0.1.1"  # of a pod on no network, as Debian has it
UNREACHABLE = "# the host's own resolvers listen on its loopback, which is not this one: there is none left"

Dns = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Pod:
    """hostname: None: its name. nested: names of what is nested in it. networks: by name → its addresses there, without
    the prefix's length, its first network first."""

    name: str
    hostname: str | None = None
    nested: Sequence[str] = ()
    networks: Mapping[str, Sequence[str]] = field(default_factory=dict)


def hosts(pods: Iterable[Pod], only: str | None = None) -> dict[str, str]:
    """hosts(5) of each, or of one, by its name; the others are in the order of their names."""
    known = sorted(pods, key=lambda pod: pod.name)
    taken = {name for pod in known for name in (pod.name, *pod.nested)} | {"localhost"}
    there: dict[str, list[tuple[str, str]]] = {}
    for pod in known:
        alias = [pod.hostname] if pod.hostname is not None and pod.hostname not in taken else []
        for network, addresses in pod.networks.items():
            there.setdefault(network, []).append((pod.name, _lines(addresses, [pod.name, *pod.nested, *alias])))
    return {pod.name: _hosts(pod, there) for pod in known if only in (None, pod.name)}


def _hosts(own: Pod, there: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    addresses = [address for given in own.networks.values() for address in given]
    text = _LOOPBACK + _lines(addresses or [_OWN], [own.hostname or own.name, own.name, *own.nested])
    return text + "".join(lines for network in own.networks for name, lines in there[network] if name != own.name)


def _lines(addresses: Iterable[str], names: Sequence[str]) -> str:
    return "".join(f"{address}\t{name}\n" for address in addresses for name in dict.fromkeys(names))


def resolver(given: Iterable[Dns], hosts_own: Iterable[str]) -> str:
    """resolv.conf(5): of the first network that gives nameservers; else those of the host that can be reached from
    elsewhere. given: of each network. hosts_own: texts of the host's, of which the first with such a one is used."""
    texts = list(hosts_own)
    found = [dns for dns in given if any(dns.values())]
    named = next((dns for dns in found if dns.get("nameservers")), None)
    if named is not None:
        return _written(named)
    usable = [_reachable(_read(text)) for text in texts]
    host = next((dns for dns in usable if dns["nameservers"]), usable[0] if usable else {})
    dns = {**host, **{key: value for key, value in (found[0] if found else {}).items() if value}}
    note = f"{UNREACHABLE}\n" if texts and not dns.get("nameservers") and _read(texts[0])["nameservers"] else ""
    return note + _written(dns)


def _read(text: str) -> dict[str, list[str]]:
    dns: dict[str, list[str]] = {"nameservers": [], "search": [], "options": []}
    for line in text.splitlines():
        key, *values = line.split() or [""]
        if key == "nameserver":
            dns["nameservers"] += values[:1]
        elif key in ("search", "domain"):
            dns["search"] = values  # the last one counts
        elif key == "options":
            dns["options"] += values
    return dns


def _reachable(dns: Mapping[str, list[str]]) -> Dns:
    return {**dns, "nameservers": [each for each in dns["nameservers"] if _elsewhere(each)]}


def _elsewhere(nameserver: str) -> bool:
    """Neither on the host's loopback nor on one of its links, whose names mean nothing in another namespace."""
    try:
        address = ipaddress.ip_address(nameserver)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)


def _written(dns: Dns) -> str:
    lines = [f"nameserver {each}" for each in dns.get("nameservers", ())]
    for key in ("search", "options"):
        if values := dns.get(key):
            lines.append(f"{key} {' '.join(values)}")
    return "".join(f"{line}\n" for line in lines)
