"""What a network of the bridge driver is to be, as the agent's configuration has it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from reconciler.errors import ReconcilerError

log = logging.getLogger(__name__)

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


def read(path: str | None) -> tuple[Definition, ...]:
    """Those of the file (`spec/networks.py`), and the built-in one, which the file may describe too. Raises
    ReconcilerError, a line for each thing that is wrong."""
    if path is None:
        return (Definition(BUILT_IN),)
    from reconciler.spec import networks

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ReconcilerError(f"--networks {path}: cannot be read: {error.strerror}") from error
    found, errors = networks.load(data, path)
    if errors:
        raise ReconcilerError("\n".join(map(str, errors)))
    described = {BUILT_IN: networks.Network(), **found}
    return tuple(Definition(name, **dict(network)) for name, network in described.items())


def read_or_go_without(path: str | None) -> tuple[Definition, ...]:
    """The same for who must be able to end containers whatever has become of the file."""
    try:
        return read(path)
    except ReconcilerError as error:
        log.error("only the built-in network is there: %s", error)
        return (Definition(BUILT_IN),)
