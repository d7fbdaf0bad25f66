"""Isolator `network/ports`: a container on the host's network that listens on a TCP or UDP port it was not given.

Looked at are containers whose spec names `ports`, or options for this isolator: what their processes, those nested in
them included, listen on, compared with the `ports` of the container, of what is nested in it and of what is around it.
What is wrong is reported, or ends the run with `enforce: true`. A network of its own is nobody's business here. A port
that is not held long enough to be seen is not seen. UDP has no listening: what is bound and not connected counts, but
for the ports that the kernel gives to who asks for none (ip_local_port_range), which clients have. After Mesos's
isolator of that name and --enforce_container_ports; it knows IPv4 and TCP alone, and only the ports of a whole tree.

Two questions to the kernel for all sockets that listen; only when one of them is no port of the container's are the
descriptors of its processes looked through.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from reconciler.errors import Terminal
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators import options, remembering
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, Limitation, PassiveIsolator, Support
from reconciler.runtime.isolators.namespaces import of_the_host
from reconciler.runtime.kernel import cgroups, proc, sock_diag, sysctls
from reconciler.runtime.kernel.cgroups import UNIFIED
from reconciler.runtime.kernel.sock_diag import Listener
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

_FILE = "ports.json"
_HIGHEST = 65535
_PRIVATE = "is for containers on the host's network"


def _range(given: Any) -> list[int]:
    """[first, last]"""
    first, dash, last = given.partition("-") if isinstance(given, str) else ("", "", "")
    if not (dash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= _HIGHEST):
        raise options.Wrong("a range of ports: 1024-49151")
    return [int(first), int(last)]


@dataclass(frozen=True, slots=True)
class _State:
    """What a later agent must know. ports: [port, address or None, protocol], the last left out by earlier ones,
    which meant TCP; range: what is looked at, both ends included."""

    ports: list[Sequence[Any]]
    enforce: bool = False
    interval: float = 30.0
    range: tuple[int, int] = (1, _HIGHEST)

    def given(self, listener: Listener, protocol: str) -> bool:
        return any(
            port == listener.port and address in (None, listener.address) and protocol in (*kind, "tcp")[:1]
            for port, address, *kind in self.ports
        )


class PortsIsolator(PassiveIsolator):
    name = "network/ports"
    options = MappingProxyType({"enforce": options.flag, "interval": options.interval, "range": _range})

    def support(self) -> Support:
        try:
            sock_diag.listeners()
        except OSError as error:
            return Support(Level.NOT_HERE, f"the kernel does not say who listens (sock_diag): {error.strerror}")
        return Support()

    def refuses(self, spec: ContainerSpec) -> list[str]:
        if self.name in spec.isolators and spec.namespaces.network == "private":
            return [f"spec.isolators.{self.name}: {_PRIVATE}"]
        return []

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        spec, ours = config.spec, of_the_host("network", config, context)
        if self.name in spec.isolators and not ours:
            raise Terminal(f"{spec.name}: spec.isolators.{self.name}: {_PRIVATE}", Reason.INVALID_SPEC)
        if ours and (spec.ports or self.name in spec.isolators):
            state = _State(
                [(each.host, each.host_ip, each.protocol) for each in spec.ports], **options.read(spec, self)
            )
            remembering.write(context.runtime_dir / _FILE, state)
        return None

    def every(self, context: Context) -> float | None:
        state = _read(context, context.name)
        return state.interval if state is not None else None

    def watch(self, context: Context) -> Limitation | None:
        state = _read(context, context.name)
        if state is None:
            return None
        allowed = [state, *_others(context)]
        first, last = state.range
        strange = [
            (each, protocol)
            for each, protocol in _listeners()
            if first <= each.port <= last and not any(other.given(each, protocol) for other in allowed)
        ]
        if not strange:
            return None
        sockets = sock_diag.holders(_processes(context))
        wrong = [
            f"{each}{'/udp' if protocol == 'udp' else ''} (process {sockets[each.inode]})"
            for each, protocol in strange
            if each.inode in sockets
        ]
        if not wrong:
            return None
        ours = sorted({port for other in allowed for port, *_ in other.ports})
        given = f"given to it: {', '.join(map(str, ours))}" if ours else "none was given to it"
        message = f"it listens on {', '.join(wrong)}, which its ports do not name; {given}"
        return Limitation(Reason.PORT_NOT_GIVEN, message, ends=state.enforce)


def _listeners() -> Iterator[tuple[Listener, str]]:
    """(who listens, its protocol)"""
    for each in sock_diag.listeners():
        yield each, "tcp"
    clients = sysctls.local_ports()
    for each in sock_diag.listeners(socket.IPPROTO_UDP):
        if each.port not in clients:
            yield each, "udp"


def _read(context: Context, name: str) -> _State | None:
    return remembering.read(context.runtime_dir.parent / name / _FILE, _State)


def _others(context: Context) -> Iterator[_State]:
    """Of what is around it and what is nested in it."""
    inside = context.name + "."
    for entry in os.scandir(context.runtime_dir.parent):
        if entry.name.startswith(inside) or context.name.startswith(entry.name + "."):
            state = _read(context, entry.name)
            if state is not None:
                yield state


def _processes(context: Context) -> list[int]:
    """Whatever left its parent is still in the cgroup; without one, what is below its first processes."""
    directory = context.cgroups.get(UNIFIED) or next(iter(context.cgroups.values()), None)
    if directory is not None:
        return cgroups.pids_below(directory)
    return proc.families(context.first)
