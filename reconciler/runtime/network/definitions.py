"""What a network of the bridge driver is to be, as the agent's configuration has it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

BUILT_IN = "bridge"


@dataclass(frozen=True, slots=True)
class Definition:
    """subnet, subnet6: None: chosen. mtu: None: that of the link of the host's default route. internal: no way out of
    it, nor into it. masquerade: who leaves it appears as the host."""

    name: str
    subnet: IPv4Network | None = None
    subnet6: IPv6Network | None = None
    mtu: int | None = None
    internal: bool = False
    masquerade: bool = True
