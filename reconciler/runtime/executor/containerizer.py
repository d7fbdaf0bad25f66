"""Containerizers and the custom executors in their containers, as one (decorator pattern).

To the containerizers below, whichever they are, an executor is a container's command. What its tasks come to is this
module's business: a container has begun once they run, ends as they end, and is shut down before it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.errors import LaunchFailed, ReconcilerError
from reconciler.runtime.containerizer import (
    ContainerConfig,
    Containerizer,
    ContainerStatus,
    Finding,
    LaunchResult,
    Termination,
    Usage,
)
from reconciler.runtime.executor import listening, session
from reconciler.runtime.executor.attending import Attendant, Surroundings, Timeouts, boot_clock
from reconciler.runtime.executor.records import Records
from reconciler.runtime.executor.session import Session
from reconciler.spec.tasks import main_process, tasks

if TYPE_CHECKING:
    from reconciler.spec.executors import Task
    from reconciler.spec.model import ContainerSpec, ResourceAmounts
    from reconciler.spec.policies import HealthCheck

log = logging.getLogger(__name__)

_COMING_SECONDS = 2.0
SANDBOX = "/mnt/mesos/sandbox"  # where a container with a root of its own has it, as in Mesos


class ExecutingContainerizer:
    name = "executing"

    def __init__(
        self, inner: Containerizer, *, runtime_dir: Path, notify: Callable[[str], None], timeouts: Timeouts
    ) -> None:
        self._inner = inner
        self._records = Records(runtime_dir)
        self._around = Surroundings(self._records, timeouts, notify, inner.status, inner.kill)
        self._all: dict[str, Attendant] = {}
        self._unreadable: dict[str, str] = {}

    async def recover(self) -> None:
        await self._inner.recover()
        found, self._unreadable = await asyncio.to_thread(self._records.load)
        for why in self._unreadable.values():
            log.error("%s", why)
        for name, kept in found.items():
            self._all[name] = Attendant(kept, self._around)
            self._all[name].begin()

    def refuses(self, spec: ContainerSpec) -> str | None:
        return self._inner.refuses(main_process(spec))

    async def provide(self, spec: ContainerSpec, say: Callable[[str], None]) -> None:
        await self._inner.provide(main_process(spec), say)

    async def launch(self, config: ContainerConfig) -> LaunchResult:
        if config.name in self._all:
            if await self._inner.status(config.name) is not None:
                return LaunchResult.ALREADY_LAUNCHED
            await self._forget(config.name)  # of a run that is long over
        if config.spec.executor is None:
            return await self._inner.launch(config)
        attendant = Attendant(_new(config), self._around)
        self._records.save(attendant.session)
        self._all[config.name] = attendant
        try:
            result = await self._inner.launch(replace(config, spec=_launched(config)))
        except LaunchFailed:
            raise  # the run is kept, and so is what it was to do
        except BaseException:
            await self._forget(config.name)
            raise
        if result is LaunchResult.LAUNCHED and self._all.get(config.name) is attendant:
            attendant.begin()
        elif result is not LaunchResult.LAUNCHED:
            await self._forget(config.name)
        return result

    async def assign(self, name: str, spec: ContainerSpec) -> None:
        if (attendant := self._all.get(name)) is not None:
            attendant.take(session.assigned(attendant.session, _wanted(spec)))

    async def status(self, name: str) -> ContainerStatus | None:
        seen, attendant = await self._inner.status(name), self._all.get(name)
        if seen is None or attendant is None:
            return seen
        connected, trouble = attendant.connected, attendant.trouble
        return session.shown(attendant.session, seen, connected=connected, trouble=trouble)

    async def wait(self, name: str) -> Termination | None:
        return self._ended(name, await self._inner.wait(name))

    async def destroy(self, name: str, *, grace: float | None = None) -> Termination | None:
        attendant = self._all.get(name)
        if attendant is not None and grace != 0 and await self._reachable(attendant):
            attendant.take(session.ended(attendant.session, boot_clock(), grace=grace, destroyed=True))
            await self._shut_down(attendant)
        termination = self._ended(name, await self._inner.destroy(name, grace=grace))
        for gone in [each for each in (*self._all, *self._unreadable) if each == name or each.startswith(f"{name}.")]:
            await self._forget(gone)
        return termination

    async def _reachable(self, attendant: Attendant) -> bool:
        with contextlib.suppress(ReconcilerError):
            seen = await self._inner.status(attendant.session.name)
            return seen is not None and seen.running and await attendant.come(_COMING_SECONDS)
        return False

    async def _shut_down(self, attendant: Attendant) -> None:
        """Until it has ended, or has had its time."""
        by = attendant.session.shutdown_by or 0.0
        try:
            async with asyncio.timeout(max(by - boot_clock(), 0.0)):
                await self._inner.wait(attendant.session.name)
        except TimeoutError:
            return

    def _ended(self, name: str, termination: Termination | None) -> Termination | None:
        attendant = self._all.get(name)
        if attendant is None or termination is None:
            return termination
        return session.outcome(attendant.session, termination)

    async def _forget(self, name: str) -> None:
        attendant = self._all.pop(name, None)
        if self._unreadable.pop(name, None) is not None:
            self._records.remove(name)
        if attendant is None:
            return
        await attendant.close()
        await asyncio.to_thread(listening.remove, *attendant.session.sandbox)
        self._records.remove(name)

    async def close(self) -> None:
        for attendant in self._all.values():
            await attendant.close()
        await self._inner.close()

    # ---- as those below have it

    async def update(self, name: str, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        await self._inner.update(name, requests, limits)

    async def usage(self, name: str) -> Usage | None:
        return await self._inner.usage(name)

    async def check(self, name: str, check: HealthCheck) -> Finding:
        return await self._inner.check(name, check)

    async def kill(self, name: str, signal: int) -> bool:
        return await self._inner.kill(name, signal)

    def containers(self) -> Sequence[str]:
        return self._inner.containers()

    def notes(self) -> Mapping[str, str]:
        return {**self._inner.notes(), **{f"executor of {name}": why for name, why in self._unreadable.items()}}


def _new(config: ContainerConfig) -> Session:
    executor, policy = config.spec.executor, config.spec.kill_policy
    assert executor is not None
    return Session(
        name=config.name,
        sandbox=config.sandbox_place,
        wanted=_wanted(config.spec),
        grace=executor.shutdown_grace_period,
        kill_grace=policy.grace_period,
    )


def _launched(config: ContainerConfig) -> ContainerSpec:
    """What the containerizer is given: the executor, with the variables it finds its agent by."""
    spec = config.spec
    assert spec.executor is not None
    own_root = spec.type == "docker" or spec.image is not None or spec.rootfs is not None
    sandbox = SANDBOX if own_root else config.sandbox_path
    found = {
        "RECONCILER_EXECUTOR_SOCKET": f"{sandbox}/{listening.SOCKET}",
        "RECONCILER_CONTAINER": spec.name,
        "RECONCILER_SHUTDOWN_GRACE_PERIOD": f"{spec.executor.shutdown_grace_period:g}",
    }
    return main_process(spec).model_copy(update={"env": {**spec.env, **found}})


def _wanted(spec: ContainerSpec) -> dict[str, dict[str, Any]]:
    return {name: _info(name, task, spec) for name, task in tasks(spec).items()}


def _info(name: str, task: Task, spec: ContainerSpec) -> dict[str, Any]:
    """What LAUNCH says of it."""
    argv = ["/bin/sh", "-c", task.shell] if task.shell is not None else list(task.command or ())
    return {
        "name": name,
        "command": [*argv, *(["sh", *task.args] if task.shell is not None and task.args else task.args)],
        "env": dict(task.env),
        "data": task.data,
        "user": spec.user,
        "kill_policy": {"signal": task.kill_policy.signal, "grace_seconds": task.kill_policy.grace_period},
    }
