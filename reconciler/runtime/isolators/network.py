"""Isolator `network`: joins what a spec says under `networks` and `ports` to the drivers that carry it out.

    in the host's user namespace   one that is ready is connected while the child is forked, which then enters it
    in one of its own              isolate: the first process is there, blocked, and its namespace is connected

While it runs each driver is asked whether all is as it was made. What was and is not, twice, ends the run: a new one is
connected anew. What never was is only told: then it is more likely that the driver (a CNI plugin's CHECK) is wrong.

The namespace is known by descriptor and never bind-mounted. What is nested shares it. Without `networks`, `ports` ask
for the default one. After Mesos's isolator `network/cni`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from reconciler.errors import ReconcilerError, Unsupported
from reconciler.runtime.isolators import network_published, network_rates, options
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, Limitation, Support
from reconciler.runtime.isolators.network_etc import Etc
from reconciler.runtime.isolators.network_usage import NetworkUsage
from reconciler.runtime.kernel import proc
from reconciler.runtime.kernel.rtnetlink import Rtnetlink
from reconciler.runtime.network import firewall
from reconciler.runtime.network.driver import Attachment, Held, NetworkDriver, Port, Request
from reconciler.runtime.network.namespaces import Namespace, Namespaces
from reconciler.spec.namespaces import Sharing, effective
from reconciler.states import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.runtime.containerizer import ContainerConfig, Usage
    from reconciler.runtime.network.record import Record
    from reconciler.spec.model import ContainerSpec, ResourceAmounts

log = logging.getLogger(__name__)

DEFAULT = "bridge"
_AT_ONCE = 1.0  # seconds that a new agent waits for what an earlier one left to be undone
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0


class NetworkIsolator(NetworkUsage):
    options = MappingProxyType({"interval": options.interval})

    def __init__(self, record: Record, drivers: Sequence[NetworkDriver], namespaces: Namespaces) -> None:
        """Of two drivers with a network of the same name the first has it."""
        self._record = record
        self._drivers = tuple(drivers)
        self._namespaces = namespaces
        self._lacking: set[str] = set()  # containers that were not as they were made when last looked at
        self._taken: dict[str, Future[Namespace]] = {}  # for launches that have yet to come so far
        self._stale: dict[str, threading.Lock] = {}  # what an earlier agent left, as long as it is not undone
        self._etc = Etc(record)
        self._can_limit = False  # not known yet
        self._boot = proc.boot_id()

    def recover(self, containers: Mapping[str, Path]) -> None:
        """What is recorded of a container that is not there was left by an agent that died, or by an earlier boot."""
        found = self._record.all()
        for driver in self._drivers:
            driver.recover([held for lines in found.values() for held in lines if held.driver == driver.name])
        self._stale = {name: threading.Lock() for name in found.keys() - containers.keys()}
        if self._stale:
            undoing = threading.Thread(target=self._undo_stale, name="networks of an earlier agent", daemon=True)
            undoing.start()
            undoing.join(_AT_ONCE)  # a plugin that takes its time holds up nobody else
        if containers:
            self._etc.recover(next(iter(containers.values())).parent)

    def support(self) -> Support:
        why = firewall.lacking()
        return Support() if why is None else Support(Level.PARTLY, f"networks of CNI plugins alone: {why}")

    def refuses(self, spec: ContainerSpec) -> list[str]:
        found, seen = list[str](), set[str]()
        if self.name in spec.isolators and not any(requests(spec)):
            found.append(f"spec.isolators.{self.name}: is for containers with networks of their own")
        found += network_rates.refused(spec, connected=any(requests(spec)))
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

    def foresee(self, spec: ContainerSpec) -> None:
        self._claim_ports(spec, own=False)
        for request in requests(spec):
            if (driver := self._driver(request.network)) is not None:
                driver.foresee(request)
        if spec.resources.limits.network is not None and not self._can_limit:
            with contextlib.closing(self._namespaces.take().result()) as namespace:
                network_rates.probe(namespace)
            self._can_limit = True

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        self._settle(config.name)
        self._claim_ports(config.spec, own=True)
        lines, looks = [], options.read(config.spec, self)
        for request in requests(config.spec):
            driver = self._driver(request.network)
            if driver is None:
                raise Unsupported(f"{config.name}: there is no network {request.network} any more")
            lines.append(Held(driver.name, request, self._boot, **looks))
        if lines:
            self._record.write(config.name, lines)
        for held in lines:
            self._named(held.driver).begin(held.request)
        files = self._etc.prepare(config, context)
        if not lines:
            return LaunchInfo(nodes=files, isolates=False)
        if effective(config.spec)["user"] is not Sharing.HOST:
            return LaunchInfo(nodes=files)
        taken = self._taken[config.name] = self._namespaces.take()
        entered, connect = {"network": lambda: os.dup(taken.result().fd)}, partial(self._connect, context)
        return LaunchInfo(nodes=files, entered=entered, beside=(connect,), isolates=False)

    def isolate(self, context: Context, pid: int) -> None:
        with contextlib.closing(Namespace.of(pid)) as namespace:
            self._attach(context, namespace)

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        """And gives back what somebody took of its networks."""
        ingress, egress = _rates(limits)
        for held, attachment, here, namespace in self._looked_into(context):
            taken = self._named(held.driver).taken(held.request, attachment, here, namespace.inside())
            for link, messages in zip((here, namespace.inside()), taken, strict=True):
                link.carry_out(*messages)
            asked = replace(held.request, ingress=ingress, egress=egress)
            if asked.limited or held.request.limited:
                network_rates.enforce(namespace, asked)
                self._record.update(context.name, replace(held, request=asked))

    def usage(self, context: Context) -> Usage:
        """With what is in force, which is compared with what is asked for (`loop/drift.py`)."""
        used = dict(super().usage(context))
        with contextlib.suppress(OSError):  # it has just ended
            for held, attachment, here, namespace in self._looked_into(context):
                taken = self._named(held.driver).taken(held.request, attachment, here, namespace.inside())
                used["network_taken"] = (used.get("network_taken") or 0) + sum(map(len, taken))
                if held.request.limited:
                    used |= network_rates.in_force(namespace, held.request)
        return used

    def _looked_into(self, context: Context) -> Iterator[tuple[Held, Attachment, Rtnetlink, Namespace]]:
        """What a container that runs is attached to, with the host's links and its own."""
        held = [(each, each.attachment) for each in self._record.of(context.name) if each.attachment is not None]
        if held and context.first:
            with contextlib.closing(Namespace.of(context.first[0])) as namespace, Rtnetlink() as here:
                for each, attachment in held:
                    yield each, attachment, here, namespace

    def every(self, context: Context) -> float | None:
        return min((held.interval for held in self._record.of(context.name)), default=None)

    def watch(self, context: Context) -> Limitation | None:
        for held in self._record.of(context.name):
            if held.attachment is None or not context.first:
                continue
            netns = f"/proc/{context.first[0]}/ns/net"
            lacks = self._named(held.driver).lacks(held.request, held.attachment, netns)
            if lacks is not None:
                again = context.name in self._lacking
                self._lacking.add(context.name)
                message = f"network {held.request.network} is not as it was made: {lacks}"
                return Limitation(Reason.NETWORK_LOST, message, ends=held.found and again)
            if not held.found:
                self._record.update(context.name, replace(held, found=True))
        self._lacking.discard(context.name)
        drivers = {held.driver for held in self._record.of(context.name)}
        unmended = [why for name in sorted(drivers) if (why := self._named(name).mend()) is not None]
        return Limitation(Reason.NETWORK_LOST, "; ".join(unmended), ends=False) if unmended else None

    def cleanup(self, context: Context) -> None:
        self._lacking.discard(context.name)
        if (taken := self._taken.pop(context.name, None)) is not None:
            taken.add_done_callback(_close)
        self._settle(context.name)
        self._detach(context.name)
        self._etc.cleanup(context)

    def _claim_ports(self, spec: ContainerSpec, *, own: bool) -> None:
        for request in requests(spec):
            network_published.claim(spec.name, request.ports, self._record.all(), own=own)

    def _connect(self, context: Context) -> None:
        with contextlib.closing(self._taken.pop(context.name).result()) as namespace:
            self._attach(context, namespace)

    def _attach(self, context: Context, namespace: Namespace) -> None:
        """What is not in the record any more, once it is attached, took so long that nobody waited for it."""
        name = context.name
        for held in self._record.of(name):
            driver = self._named(held.driver)
            attachment = driver.attach(held.request, namespace)
            if not self._record.update(name, replace(held, attachment=attachment)):
                driver.detach(held.request, attachment)
            elif held.request.limited:
                network_rates.enforce(namespace, held.request)
        self._etc.attached(context)

    def _undo_stale(self) -> None:
        """In a thread of its own, until all is undone, later each time."""
        pause = _FIRST_RETRY
        while True:
            for name in list(self._stale):
                try:
                    self._settle(name)
                except (OSError, ReconcilerError) as error:
                    log.warning("%s: its networks could not be undone yet, which is tried again: %s", name, error)
            if not self._stale:
                return
            time.sleep(pause)
            pause = min(2 * pause, _LAST_RETRY)

    def _settle(self, name: str) -> None:
        """Undo what an earlier agent left under that name, once: what comes after may bear the same names."""
        with self._stale.get(name, contextlib.nullcontext()):
            if name in self._stale:
                self._detach(name)
                del self._stale[name]

    def _detach(self, name: str) -> None:
        if name in self._record.all():
            for held in reversed(self._record.of(name)):
                self._named(held.driver).detach(held.request, held.attachment)
            self._record.remove(name)
            self._etc.changed()
        if not self._record.all():
            self._namespaces.none()

    def _driver(self, network: str) -> NetworkDriver | None:
        return next((each for each in self._drivers if network in each.networks()), None)

    def _named(self, driver: str) -> NetworkDriver:
        return next(each for each in self._drivers if each.name == driver)


def _close(taken: Future[Namespace]) -> None:
    if taken.exception() is None:
        taken.result().close()


def requests(spec: ContainerSpec) -> Iterator[Request]:
    """What a spec asks for, network by network; nothing for what shares another's."""
    if spec.parent is not None or effective(spec)["network"] is not Sharing.PRIVATE:
        return
    ports = tuple(Port(port.host, port.container, port.protocol, port.host_ip) for port in spec.ports)
    asked: list[tuple[str, str | None]] = [(each.name, each.ip) for each in spec.networks]
    if ports and not asked:
        asked = [(DEFAULT, None)]
    ingress, egress = _rates(spec.resources.limits)
    for number, (network, ip) in enumerate(asked):
        first = number == 0
        yield Request(
            spec.name,
            network,
            f"eth{number}",
            ip,
            ports if first else (),
            default=first,
            hostname=spec.hostname,
            ingress=ingress,
            egress=egress,
        )


def _rates(limits: ResourceAmounts) -> tuple[int | None, int | None]:
    return (None, None) if limits.network is None else (limits.network.ingress, limits.network.egress)
