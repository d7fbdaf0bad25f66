"""A state directory, a runtime directory and an owner id of a test's own, and agents on them.

An `Agent` here is what the real one holds of the runtime: a containerizer, recovered, and closed at the end without
destroying anything. `World.clear` takes everything away, the keeper too.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from reconciler.errors import Retryable
from reconciler.runtime import isolation
from reconciler.runtime.build import build, end
from reconciler.runtime.containerizer import ContainerConfig, Containerizer, ContainerStatus, Termination
from reconciler.runtime.fetcher.fetcher import Fetcher
from reconciler.runtime.isolators.isolator import Isolator
from reconciler.runtime.kernel import cgroups, proc
from reconciler.runtime.mesos.checkpoint import RUN, Checkpoints, Run
from reconciler.runtime.mesos.containerizer import MesosContainerizer
from reconciler.runtime.settings import RuntimeSettings
from reconciler.spec.model import ContainerSpec
from reconciler.spec.normal import digest
from tests import processes

WITHIN = 10.0  # for anything that takes milliseconds
SECONDS = WITHIN * processes.PATIENCE


async def until(what: str, probe: Callable[[], Any], seconds: float = WITHIN) -> Any:
    """The first true answer of `probe`; fails the test after `seconds`, times the patience asked for."""
    deadline = time.monotonic() + seconds * processes.PATIENCE
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.005)
    return answer


def wait_for(
    what: str, probe: Callable[[], Any], seconds: float = WITHIN, seen: Callable[[], object] | None = None
) -> Any:
    """The same without an event loop."""
    deadline = time.monotonic() + seconds * processes.PATIENCE
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}" + (f"; seen: {seen()}" if seen else "")
        time.sleep(0.005)
    return answer


class Agent:
    def __init__(self, world: World, containerizer: Containerizer) -> None:
        self.world = world
        self.containerizer = containerizer

    async def launch(self, name: str, **spec: Any) -> ContainerStatus:
        await self.containerizer.launch(self.world.config(name, **spec))
        return await self.status(name)

    async def status(self, name: str) -> ContainerStatus:
        status = await self.containerizer.status(name)
        assert status is not None, f"{name} is not known"
        return status

    async def pid(self, name: str) -> int:
        pid = (await self.status(name)).pid
        assert pid is not None, f"{name} has no process"
        return pid

    async def payload(self, name: str) -> int:
        """Host pid of the payload, a child of the init."""
        init = await self.pid(name)
        children: list[int] = await until(f"{name} has a payload", lambda: proc.descendants(init))
        return children[0]

    async def ended(self, name: str, seconds: float = WITHIN) -> Termination:
        limit = seconds * processes.PATIENCE
        termination = await asyncio.wait_for(self.containerizer.wait(name), limit)
        assert termination is not None
        return termination

    def output(self, name: str, stream: str = "stdout") -> str:
        return (self.world.logs(name) / stream).read_text()

    async def says(self, name: str, text: str, stream: str = "stdout") -> str:
        """Its whole output once `text` is in it."""
        await until(f"{name} says {text!r}", lambda: text in self.output(name, stream))
        return self.output(name, stream)

    async def run(self, name: str, **spec: Any) -> list[str]:
        """Launch, wait for its end, return its lines."""
        await self.launch(name, **spec)
        await self.ended(name)
        return self.output(name).splitlines()

    async def destroy(self, name: str, grace: float | None = 0) -> Termination | None:
        return await self.containerizer.destroy(name, grace=grace)


class World:
    CGROUPS: ClassVar[str] = f"reconciler-runtime-tests-{os.getpid()}"

    def __init__(self, base: Path, launcher: str | None) -> None:
        self.base, self.root, self.run = base, base / "root", base / "run"
        self.launcher = launcher
        owner = f"t{secrets.token_hex(4)}"
        self.settings = RuntimeSettings(self.root, self.run, owner, launcher=launcher, cgroups_root=self.CGROUPS)
        self.notified: list[str] = []

    def sandbox(self, name: str) -> Path:
        root, *below = name.split(".")
        return self.root.joinpath(
            "containers", root, "sandbox", *(part for each in below for part in ("containers", each))
        )

    def logs(self, name: str) -> Path:
        return self.root / "containers" / name / "logs"

    def config(self, name: str, **spec: Any) -> ContainerConfig:
        made = ContainerSpec.model_validate({"name": name, **spec})
        return ContainerConfig(made, digest(made), self.sandbox(name), self.logs(name))

    def build(self, extra: Sequence[Isolator] = ()) -> Containerizer:
        """`extra`: isolators of the test, after the real ones."""
        if not extra:
            return build(self.settings, self.notified.append)
        self.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        launcher, isolators, _ = isolation.chain(self.settings)
        return MesosContainerizer(
            root=self.root,
            runtime_dir=self.run,
            launcher=launcher,
            isolators=[*isolators, *extra],
            fetcher=Fetcher(self.root / "cache"),
            notify=self.notified.append,
        )

    @asynccontextmanager
    async def agent(self, extra: Sequence[Isolator] = ()) -> AsyncIterator[Agent]:
        containerizer = self.build(extra)
        await containerizer.recover()
        try:
            yield Agent(self, containerizer)
        finally:
            await containerizer.close()

    async def clear(self) -> None:
        """Whatever a test left on purpose."""
        if (self.run / "containers").is_dir():
            async with self.agent() as agent:
                for name in [name for name in agent.containerizer.containers() if "." not in name]:
                    await retried(lambda name=name: agent.destroy(name))  # type: ignore[misc]
                for name in agent.containerizer.containers():
                    await retried(lambda name=name: agent.destroy(name))  # type: ignore[misc]
        await end(self.settings)

    # ---- what a test looks at, or breaks

    def record(self, name: str) -> Path:
        return self.run / "containers" / name / RUN

    def checkpoint(self, name: str) -> Run:
        run = Checkpoints(self.run).read(name)
        assert run is not None, f"{name} has no checkpoint"
        return run

    def keeper(self) -> int:
        """Its pid; 0 when there is none."""
        for process in processes.below(os.getpid()):
            line = processes.cmdline(process.pid)
            if "keeper" in line and str(self.run) in line:
                return process.pid
        return 0

    async def kill_keeper(self) -> int:
        pid = self.keeper()
        assert pid, "there is no keeper"
        os.kill(pid, signal.SIGKILL)
        await until("the keeper is dead", lambda: not processes.alive(pid))
        return pid

    async def next_keeper(self, old: int) -> int:
        found: int = await until("there is a new keeper", lambda: (pid := self.keeper()) != old and pid)
        return found

    def cgroup_dirs(self) -> list[Path]:
        """Of containers, in every hierarchy."""
        owner = self.settings.owner
        mounts = [Path(hierarchy.mount) for hierarchy in cgroups.read_map().hierarchies]
        return [path for mount in mounts for path in (mount / self.CGROUPS / owner).glob("*/")]


async def retried(call: Callable[[], Awaitable[object]], attempts: int = 5) -> None:
    for left in reversed(range(attempts)):
        try:
            await call()
            return
        except Retryable:
            if not left:
                raise
