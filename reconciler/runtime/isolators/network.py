"""Isolator `network`: joins what a spec says under `networks` and `ports` to the drivers that carry it out.

Connected is what lies between the fork and the release: the first process is there, blocked, and holds its network
namespace, which is known by descriptor and never bind-mounted. What is nested shares the namespace. Without `networks`,
`ports` ask for the default one. After Mesos's isolator `network/cni`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.errors import ReconcilerError, Unsupported
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, PassiveIsolator
from reconciler.runtime.kernel import proc
from reconciler.runtime.network.driver import Held, NetworkDriver, Port, Request
from reconciler.spec.namespaces import Sharing, effective

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.runtime.network.record import Record
    from reconciler.spec.model import ContainerSpec

log = logging.getLogger(__name__)

DEFAULT = "bridge"


class NetworkIsolator(PassiveIsolator):
    name = "network"

    def __init__(self, record: Record, drivers: Sequence[NetworkDriver]) -> None:
        """Of two drivers with a network of the same name the first has it."""
        self._record = record
        self._drivers = tuple(drivers)
        self._boot = proc.boot_id()

    def recover(self, containers: Mapping[str, Path]) -> None:
        """What is recorded of a container that is not there was left by an agent that died, or by an earlier boot."""
        found = self._record.all()
        for driver in self._drivers:
            driver.recover([held for lines in found.values() for held in lines if held.driver == driver.name])
        for name in found.keys() - containers.keys():
            try:
                self._detach(name)
            except (OSError, ReconcilerError) as error:
                log.warning("%s: its networks could not be undone yet: %s", name, error)

    def refuses(self, spec: ContainerSpec) -> list[str]:
        found, seen = list[str](), set[str]()
        for number, request in enumerate(requests(spec)):
            field = f"spec.networks[{number}]" if spec.networks else "spec.ports"
            driver = self._driver(request.network)
            if request.network in seen:
                found.append(f"{field}: {request.network} is there already")
            seen.add(request.network)
            if driver is None:
                there_are = ", ".join(sorted({name for each in self._drivers for name in each.networks()}))
                found.append(f"{field}: there is no network {request.network}; there are: {there_are or 'none'}")
            else:
                found += [f"{field}: {why}" for why in driver.check(request)]
        return found

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        lines = []
        for request in requests(config.spec):
            driver = self._driver(request.network)
            if driver is None:
                raise Unsupported(f"{config.name}: there is no network {request.network} any more")
            lines.append(Held(driver.name, request, self._boot))
        if lines:
            self._record.write(config.name, lines)
        return None

    def isolate(self, context: Context, pid: int) -> None:
        lines = self._record.of(context.name)
        if not lines:
            return
        netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            for held in lines:
                attachment = self._named(held.driver).attach(held.request, netns)
                self._record.update(context.name, replace(held, attachment=attachment))
        finally:
            os.close(netns)

    def cleanup(self, context: Context) -> None:
        self._detach(context.name)

    def _detach(self, name: str) -> None:
        for held in reversed(self._record.of(name)):
            self._named(held.driver).detach(held.request, held.attachment)
        self._record.remove(name)

    def _driver(self, network: str) -> NetworkDriver | None:
        return next((each for each in self._drivers if network in each.networks()), None)

    def _named(self, driver: str) -> NetworkDriver:
        return next(each for each in self._drivers if each.name == driver)


def requests(spec: ContainerSpec) -> Iterator[Request]:
    """What a spec asks for, network by network; nothing for what shares another's."""
    if spec.parent is not None or effective(spec)["network"] is not Sharing.PRIVATE:
        return
    ports = tuple(Port(port.host, port.container, port.protocol, port.host_ip) for port in spec.ports)
    asked: list[tuple[str, str | None]] = [(each.name, each.ip) for each in spec.networks]
    if ports and not asked:
        asked = [(DEFAULT, None)]
    for number, (network, ip) in enumerate(asked):
        first = number == 0
        yield Request(spec.name, network, f"eth{number}", ip, ports if first else (), default=first)
