"""Who has which port of the host, so that no two top-level containers are given one. Pure.

Who had a port when it was last applied, and still asks for it, has it; else the first who is asked about. Within one
tree ports are shared, as its network is. What is suspended by its spec has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.loop.texts import place
from reconciler.loop.values import Origin
from reconciler.spec import ports
from reconciler.spec.attachments import PortMapping
from reconciler.spec.model import ContainerSpec


@dataclass(frozen=True, slots=True)
class _Owned:
    port: PortMapping
    container: str
    root: str
    origin: Origin


@dataclass(slots=True)
class PortOwners:
    _owned: list[_Owned] = field(default_factory=list)

    def give(self, spec: ContainerSpec, origin: Origin, *, again: ContainerSpec | None = None) -> None:
        """All that it asks for; `again`: but only what this one, the new version of it, still does."""
        if spec.suspend or (again is not None and again.suspend):
            return
        for port in spec.ports:
            if again is None or any(ports.overlap(port, each) for each in again.ports):
                self._owned.append(_Owned(port, spec.name, spec.root, origin))

    def taken(self, spec: ContainerSpec) -> tuple[int, str] | None:
        """(number of a port that another one has, whose it is)."""
        for number, port in enumerate(() if spec.suspend else spec.ports):
            for owned in self._owned:
                if owned.root != spec.root and ports.overlap(port, owned.port):
                    of = f"{owned.container} ({place(owned.origin)})"
                    return number, f"port {ports.shown(port)} of the host is that of {of}, which has {_as(owned.port)}"
        return None


def _as(port: PortMapping) -> str:
    return ports.shown(port) if port.host_ip is not None else f"{ports.shown(port)} on every address"
