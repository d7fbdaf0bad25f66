"""The mesos containerizer: native containers through a launcher and a chain of isolators.

    launching   provision ▸ prepare each isolator ▸ fork, child blocked ▸ isolate with the pid ▸ fetch ▸ release
    ending      first process gone ▸ status ▸ the rest killed ▸ cleaned up; destroy: nested, signal, grace, kill
    watching    what isolators look at while it runs; what it does wrong can end it
    recovery    after a restart of the agent, or of the keeper

Invariants: one launch or destroy of a name at a time; a step that fails leaves a container that `destroy` can
still take away; nothing here waits without a limit. Follows Mesos's MesosContainerizer, except that a failed
destroy can be repeated and that one unreadable checkpoint does not fail the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Retryable, Unsupported
from reconciler.runtime.containerizer import (
    ContainerConfig,
    ContainerStatus,
    Finding,
    LaunchResult,
    Termination,
    Usage,
)
from reconciler.runtime.fetcher.fetcher import Fetcher
from reconciler.runtime.hooks.hooks import Hooks
from reconciler.runtime.isolators.isolator import Isolator, Limitation
from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher.cgroup_tree import CgroupLost
from reconciler.runtime.launcher.launcher import Launcher
from reconciler.runtime.launcher.pins import Pins
from reconciler.runtime.mesos import judging, probing
from reconciler.runtime.mesos.checkpoint import Checkpoints, Run
from reconciler.runtime.mesos.container import Container, Workshop
from reconciler.runtime.mesos.ending import Endings
from reconciler.runtime.mesos.launching import Launching
from reconciler.runtime.mesos.measuring import merged
from reconciler.runtime.mesos.output import STREAMS
from reconciler.runtime.mesos.recovery import Recovery
from reconciler.runtime.mesos.rotation import Bounds, rotate
from reconciler.runtime.mesos.watching import Watching
from reconciler.runtime.provisioner.images import Images
from reconciler.runtime.provisioner.registry import Access
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec, ResourceAmounts
    from reconciler.spec.policies import HealthCheck

log = logging.getLogger(__name__)

_ROTATION_SECONDS = 1.0


class MesosContainerizer:
    name = "mesos"

    def __init__(
        self,
        *,
        root: Path,
        runtime_dir: Path,
        launcher: Launcher,
        isolators: Sequence[Isolator],
        fetcher: Fetcher,
        notify: Callable[[str], None],
        left_out: Set[str] = frozenset(),
        hooks: Hooks | None = None,
        access: Access | None = None,
        image_backend: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        boot = proc.boot_id()
        checkpoints, pins = Checkpoints(runtime_dir), Pins(runtime_dir)
        self._images = Images(root, access or Access(), image_backend)
        self._shop = Workshop(launcher, tuple(isolators), checkpoints, pins, self._images, notify, clock)
        self._endings = Endings(self._shop)
        self._watching = Watching(self._shop, self._endings.limit)
        self._launching = Launching(self._shop, self._endings, fetcher, hooks or Hooks(), boot)
        self._recovery = Recovery(self._shop, self._endings, self._watching, boot)
        self._left_out = left_out
        self._rotating: asyncio.Task[None] | None = None

    async def recover(self) -> None:
        await self._recovery.recover()
        await self._images.recover(self.containers())
        self._rotating = asyncio.create_task(self._rotate_logs(), name="log rotation")

    def refuses(self, spec: ContainerSpec) -> str | None:
        if spec.type != "mesos":
            return None
        launcher, isolators = self._shop.launcher, self._shop.isolators
        return "; ".join(judging.refusals(spec, launcher, isolators, self._left_out, self._images.backend)) or None

    async def provide(self, spec: ContainerSpec, say: Callable[[str], None]) -> None:
        if spec.type != "mesos":
            return
        if spec.name in self._shop.all:  # else there is no run to end, and the launch itself finds out
            try:
                await self._shop.stage(
                    "looking for what it needs of the host", judging.foresee, spec, self._shop.isolators
                )
            except OSError as error:
                raise Retryable(f"{spec.name}: {error}") from error
        for field, image in spec.images:
            await self._images.provide(image, say, f"spec.{field}")

    async def launch(self, config: ContainerConfig) -> LaunchResult:
        if config.spec.type != "mesos":
            return LaunchResult.NOT_SUPPORTED
        if config.name in self._shop.all:
            return LaunchResult.ALREADY_LAUNCHED
        if config.name in self._shop.quarantined:
            raise Retryable(self._shop.quarantined[config.name], Reason.RECORD_UNREADABLE)
        if (refused := self.refuses(config.spec)) is not None:
            raise Unsupported(refused)
        await self._launch(config, self._parent_of(config))
        if (container := self._shop.all.get(config.name)) is not None and container.serves:
            self._watching.begin(container)
        self._shop.notify(config.name)
        return LaunchResult.LAUNCHED

    async def _launch(self, config: ContainerConfig, parent: Container | None) -> None:
        """Cancelled, it gives up at its next step and undoes what it did: threads and the keeper, which carry the
        steps out, can't be called back, and what they hand over must not be lost."""
        launch = asyncio.create_task(self._launching.launch(config, parent), name=f"launch of {config.name}")
        try:
            await asyncio.shield(launch)
        except asyncio.CancelledError:
            if (container := self._shop.all.get(config.name)) is not None:
                container.dismiss()
            await asyncio.gather(launch, return_exceptions=True)
            raise

    def _parent_of(self, config: ContainerConfig) -> Container | None:
        name = config.spec.parent
        if name is None:
            return None
        parent = self._shop.all.get(name)
        if parent is None or not parent.serves:
            raise Retryable(f"{config.name}: its parent {name} is not running", Reason.PARENT_NOT_RUNNING)
        return parent

    async def update(self, name: str, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        container = self._shop.all.get(name)
        if container is None or not container.alive:
            raise Retryable(f"{name} does not run: nothing to update", Reason.STATE_UNKNOWN)
        try:
            there = await self._shop.stage("gathering its processes", self._gather, container)
        except CgroupLost as lost:
            found = f"somebody removed {lost.filename}, which holds its processes together or says what they may use"
            self._endings.limit(container, Limitation(Reason.CGROUP_LOST, found))
            return
        if there != container.run.cgroups:
            container.checkpoint(cgroups=dict(there))
        context = self._shop.context(container)
        await self._shop.each("update", lambda isolator: isolator.update(context, requests, limits))
        self._watching.begin(container)

    async def usage(self, name: str) -> Usage | None:
        container = self._shop.all.get(name)
        if container is None or not container.alive:
            return None
        context = self._shop.context(container)
        try:
            used = merged(await self._shop.each("usage", lambda isolator: isolator.usage(context)))
            return {**used, "strays": await self._shop.stage("looking for strays", self._strays, container)}
        except OSError as error:
            raise Retryable(f"{name}: what it uses cannot be had: {error}", Reason.STATE_UNKNOWN) from error

    def _strays(self, container: Container) -> int:
        return self._shop.launcher.strays(container.name, self._processes(container.run))

    def _gather(self, container: Container) -> Mapping[str, str]:
        return self._shop.launcher.gather(container.name, self._processes(container.run))

    def _processes(self, run: Run) -> list[int]:
        """Its first process, those that were started in it later, and what descends from these."""
        if run.pid is None or not proc.is_running(run.pid, run.start or 0):
            return []
        others = {each.run.pid for each in self._shop.all.values()}
        return proc.families([run.pid, *proc.guests(run.pid, self._shop.launcher.keeper, others)])

    async def status(self, name: str) -> ContainerStatus | None:
        if name in self._shop.quarantined:
            raise Retryable(self._shop.quarantined[name], Reason.RECORD_UNREADABLE)
        container = self._shop.all.get(name)
        return container.status() if container else None

    async def wait(self, name: str) -> Termination | None:
        container = self._shop.all.get(name)
        if container is None:
            return None
        await container.over.wait()
        return container.run.termination

    async def check(self, name: str, check: HealthCheck) -> Finding:
        container = self._shop.all.get(name)
        if container is None or not container.serves:
            raise Retryable(f"{name} does not run: nothing to check", Reason.STATE_UNKNOWN)
        return await probing.probe(self._shop.launcher, container, check)

    async def kill(self, name: str, signal: int) -> bool:
        container = self._shop.all.get(name)
        return container is not None and container.signal(signal)

    async def destroy(self, name: str, *, grace: float | None = None) -> Termination | None:
        return await self._endings.destroy(name, grace)

    def containers(self) -> Sequence[str]:
        return sorted({*self._shop.all, *self._shop.quarantined})

    def notes(self) -> Mapping[str, str]:
        note = self._recovery.note or self._shop.launcher.note
        return {"keeper": note} if note else {}

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_ROTATION_SECONDS)
            runs = [container.run for container in self._shop.all.values() if container.alive]
            try:
                await self._shop.stage("log rotation", _rotate, runs)
            except OSError as error:
                log.warning("a log could not be rotated: %s", error)

    async def close(self) -> None:
        self._images.close()
        await self._recovery.close()
        await self._endings.close()
        if self._rotating is not None:
            self._rotating.cancel()
        for container in self._shop.all.values():
            if container.ending is not None and not container.ending.done():
                await asyncio.wait([container.ending], timeout=1.0)
            container.close()
        await self._shop.launcher.close()


def _rotate(runs: list[Run]) -> None:
    for run in runs:
        for stream in STREAMS:
            rotate(Path(run.logs) / stream, Bounds(run.log_size, run.log_files))
