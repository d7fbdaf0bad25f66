"""The docker containerizer: containers of `type: docker` on a Docker Engine, through its API.

    provide   pull the image
    launch    FETCHING: uris, hooks ▸ create, labelled ▸ start ▸ RUNNING             (launching.py)
    run       looked after by an executor of its own, also while no agent runs        (executors.py, executor/)
    end       seen by listing; events of the engine only shorten the wait; of one that is gone from the engine, read
              from what its executor wrote
    destroy   DESTROYING: signal ▸ grace ▸ kill ▸ remove, each of them repeatable    (ending.py)

Ours are known by their labels (owner, name, digest) and by nothing else, so another agent's, and look-alikes, are never
touched. An engine that is away makes them unknown, not dead: `status` raises then, and what still runs when it is
back is taken up as it is. Follows Mesos's DockerContainerizer, without its command line calls and its waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.errors import LaunchFailed, Retryable, Unsupported
from reconciler.runtime.containerizer import (
    ContainerConfig,
    ContainerStatus,
    Finding,
    LaunchResult,
    Termination,
    Usage,
)
from reconciler.runtime.docker import launching, mapping, naming, probing, reading, refusals
from reconciler.runtime.docker.ending import Ending
from reconciler.runtime.docker.engine import Engine, EngineLost, Refused
from reconciler.runtime.docker.executors import Executors, Look
from reconciler.runtime.docker.images import Images
from reconciler.runtime.docker.launching import Launching
from reconciler.runtime.docker.marks import Marks
from reconciler.runtime.docker.secrets import Secrets
from reconciler.runtime.docker.tracked import Tracked
from reconciler.runtime.fetcher.fetcher import Fetcher
from reconciler.runtime.hooks.hooks import Hooks
from reconciler.runtime.isolators.isolator import Context, Isolator
from reconciler.runtime.mesos.measuring import merged
from reconciler.runtime.provisioner.registry import Access
from reconciler.states import ContainerState, Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec, ResourceAmounts
    from reconciler.spec.policies import HealthCheck

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
RECOVER_SECONDS = 3.0  # that others wait for it
WRITTEN_SECONDS = 5.0  # for an executor to write down how one ended that is gone from the engine
_SOON = 0.1
_AT_A_TIME = 8  # of what an engine is asked of each container

Json = dict[str, Any]


class DockerContainerizer:
    name = "docker"

    def __init__(
        self,
        *,
        engine: Engine,
        isolators: Sequence[Isolator],
        marks: Marks,
        executors: Executors,
        secrets: Secrets,
        no_secrets: str,
        access: Access,
        owner: str,
        fetcher: Fetcher,
        notify: Callable[[str], None],
        hooks: Hooks | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine, self._owner, self._notify, self._clock = engine, owner, notify, clock
        self._isolators = tuple(isolators)
        self._marks, self._executors = marks, executors
        self._secrets, self._no_secrets = secrets, no_secrets
        self._all: dict[str, Tracked] = {}
        self._launching = Launching(
            engine=engine,
            marks=self._marks,
            secrets=secrets,
            owner=owner,
            fetcher=fetcher,
            hooks=hooks or Hooks(),
            notify=notify,
            clock=clock,
        )
        self._images = Images(engine, access)
        self._lost = ""
        self._watching: asyncio.Task[None] | None = None
        self._look, self._looked = asyncio.Event(), asyncio.Event()
        self._events: threading.Thread | None = None
        self._ending = Ending(engine, executors, look=self._look.set, lost=lambda: self._lost, forget=self._forget)

    # ---- looking

    async def recover(self) -> None:
        """An engine that is away, or slow, is no failure: its containers are unknown until it has answered."""
        self._lost = f"the Docker Engine at {self._engine.url} has not answered yet"
        self._watching = asyncio.create_task(self._watch(), name="docker engine")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECOVER_SECONDS):
                await self._looked.wait()

    async def _watch(self) -> None:
        await self._observe()
        self._looked.set()
        while True:
            if not self._lost and (self._events is None or not self._events.is_alive()):
                self._events = threading.Thread(
                    target=self._hear, args=(asyncio.get_running_loop(),), name="docker events", daemon=True
                )
                self._events.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look.wait()
            self._look.clear()
            if self._marks.names() or self._all or self._lost:
                await self._observe()

    def _hear(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: an event means "look again", whatever it says."""
        try:
            for _ in self._engine.events([f"{naming.OWNER}={self._owner}"]):
                loop.call_soon_threadsafe(self._look.set)
        except (EngineLost, RuntimeError):
            return  # the listing notices as well; a loop that is closed needs nothing more

    async def _observe(self) -> None:
        """What the engine has of ours now. Listing is the truth."""
        began = self._clock()
        try:
            found = await self._listed()
        except (EngineLost, Refused) as error:
            if not self._lost:
                log.warning("%s", error)
            self._lost = str(error)
            for name in self._known():
                self._notify(name)
            return
        if self._lost:
            log.info("the Docker Engine at %s answers, %d containers are ours", self._engine.url, len(found))
        was_lost, self._lost = bool(self._lost), ""
        for name, inspected in found.items():
            self._take_in(name, inspected)
        seen = await self._executors.look(self._known())
        for name in self._known() - found.keys():
            self._missing(name, began, seen.get(name, Look()))
        alive = [self._all[name] for name in found if name in self._all]
        self._executors.ensure([each for each in alive if each.id and each.termination is None], seen)
        if was_lost:
            for name in self._known():
                self._notify(name)

    async def _listed(self) -> dict[str, Json]:
        """name → what `inspect` says of it. What is being made is left out. Some at a time: an engine may be slow."""
        filters = {"label": f"{naming.OWNER}={self._owner}"}
        listed = await self._engine.call(lambda api: api.containers(all=True, filters=filters))
        some = asyncio.Semaphore(_AT_A_TIME)

        async def inspect(id: str) -> Json | None:
            async with some:
                return await self._engine.call(lambda api: launching.inspected(api, id))

        ours = [each for each in listed if {naming.NAME, naming.DIGEST} <= each["Labels"].keys()]
        found = await asyncio.gather(*(inspect(each["Id"]) for each in ours))
        return {
            each["Labels"][naming.NAME]: inspected
            for each, inspected in zip(ours, found, strict=True)
            if inspected is not None and not reading.never_started(inspected)
        }

    def _take_in(self, name: str, inspected: Json) -> None:
        container = self._all.get(name)
        if container is not None and container.id != inspected["Id"]:
            return  # an old one that is being removed, or a new one that is being made
        if container is None:
            container = Tracked(name)
            self._all[name] = container
            self._marks.put(name)  # nothing to do where there is one
        before = container.status()
        container.take_up(inspected, self._clock())
        if container.status() != before:
            self._notify(name)

    def _missing(self, name: str, looked_at: float, seen: Look) -> None:
        """Somebody removed it behind our back. How it ended its executor knows, who may be about to write that."""
        container = self._all.get(name)
        if container is None:
            if seen.container is not None:
                self._take_in(name, seen.container)
            elif seen.pid is None:
                self._forget(name)
        elif container.termination is None and 0 < (container.started_at or 0) < looked_at:
            container.missed = container.missed or time.monotonic()
            if seen.container is not None and seen.id == container.id:
                container.take_up(seen.container, self._clock())
            elif seen.pid is not None and time.monotonic() < container.missed + WRITTEN_SECONDS:
                asyncio.get_running_loop().call_later(_SOON, self._look.set)
                return
            else:
                why = "somebody else removed it from the engine"
                container.end(Termination(None, None, Reason.EXIT_STATUS_LOST, self._clock(), why))
            self._notify(name)

    def _known(self) -> set[str]:
        return {*self._all, *self._marks.names()}

    # ---- what the loop asks for

    def refuses(self, spec: ContainerSpec) -> str | None:
        if spec.type != "docker":
            return None
        return "; ".join(refusals.sentences(spec, self._no_secrets)) or None

    async def provide(self, spec: ContainerSpec, say: Callable[[str], None]) -> None:
        if spec.type != "docker" or spec.image is None:
            return
        if self._lost:
            raise Retryable(self._lost, Reason.STATE_UNKNOWN)
        await self._images.provide(spec, say)

    async def launch(self, config: ContainerConfig) -> LaunchResult:
        if config.spec.type != "docker":
            return LaunchResult.NOT_SUPPORTED
        if config.name in self._all:
            return LaunchResult.ALREADY_LAUNCHED
        if (refused := self.refuses(config.spec)) is not None:
            raise Unsupported(refused, Reason.NO_CONTAINERIZER)
        if self._lost:
            raise Retryable(self._lost, Reason.STATE_UNKNOWN)
        policy = config.spec.kill_policy
        container = Tracked(config.name, digest=config.digest, kill_signal=policy.signal, grace=policy.grace_period)
        self._all[config.name] = container
        async with container.lock:
            try:
                await self._launching.launch(container, config)
            except LaunchFailed:
                raise  # the run is kept, with its termination
            except BaseException:
                self._all.pop(config.name, None)
                container.over.set()
                raise
        self._look.set()  # for its executor
        self._notify(config.name)
        return LaunchResult.LAUNCHED

    def _enter(self, container: Tracked, state: ContainerState) -> None:
        container.state = state
        self._notify(container.name)

    async def update(self, name: str, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        container = self._all.get(name)
        if container is None or container.state is not ContainerState.RUNNING:
            raise Retryable(f"{name} does not run: nothing to update", Reason.STATE_UNKNOWN)
        change = mapping.change(requests, limits)

        def post(api: Any) -> None:
            answer = api.post(f"{api.base_url}/v{api.api_version}/containers/{container.id}/update", json=change)
            if answer.status_code != 200:
                raise Refused(answer.status_code, answer.json().get("message", answer.text))

        try:
            await self._engine.call(post)
        except Refused as error:
            raise Retryable(f"resources: the engine refuses them ({error}); the old ones stay in force") from error

    async def usage(self, name: str) -> Usage | None:
        """What the kernel says of its cgroups, whoever made them."""
        container = self._all.get(name)
        if container is None or container.state is not ContainerState.RUNNING:
            return None
        context = Context(name, container.cgroups, Path("/"))
        try:
            return await asyncio.to_thread(lambda: merged(each.usage(context) for each in self._isolators))
        except OSError as error:
            raise Retryable(f"{name}: what it uses cannot be had: {error}", Reason.STATE_UNKNOWN) from error

    async def check(self, name: str, check: HealthCheck) -> Finding:
        container = self._all.get(name)
        if container is None or container.state is not ContainerState.RUNNING or container.pid is None:
            raise Retryable(f"{name} does not run: nothing to check", Reason.STATE_UNKNOWN)
        finding = await probing.probe(self._engine, name, container.id, container.pid, check)
        if container.state is not ContainerState.RUNNING:
            raise Retryable(f"{name} ended meanwhile", Reason.STATE_UNKNOWN)
        return finding

    async def status(self, name: str) -> ContainerStatus | None:
        container = self._all.get(name)
        if self._lost and (container is not None or name in self._marks.names()):
            raise Retryable(self._lost, Reason.STATE_UNKNOWN)
        return container.status() if container is not None else None

    async def wait(self, name: str) -> Termination | None:
        container = self._all.get(name)
        if container is None:
            return None
        await container.over.wait()
        return container.termination

    async def kill(self, name: str, signal: int) -> bool:
        container = self._all.get(name)
        if container is None or container.state is not ContainerState.RUNNING:
            return False
        return await self._ending.signal(container, signal)

    async def destroy(self, name: str, *, grace: float | None = None) -> Termination | None:
        container = self._all.get(name)
        if container is None:
            if name in self._marks.names():
                await self._ending.remove(naming.engine_name(self._owner, name), name)
            return None
        container.dismiss()
        async with container.lock:
            if self._all.get(name) is not container:  # its launch came to nothing
                await self.destroy(name, grace=grace)
                return container.termination
            if container.state is ContainerState.RUNNING:
                self._enter(container, ContainerState.DESTROYING)
            if not container.over.is_set():
                await self._ending.end(container, grace)
            await self._ending.remove(container.id, name, container)
            self._all.pop(name, None)
            return container.termination

    def _forget(self, name: str) -> None:
        self._secrets.remove(name)
        self._marks.remove(name)

    def containers(self) -> Sequence[str]:
        return sorted(self._known())

    def notes(self) -> Mapping[str, str]:
        found = {"docker": self._lost, "docker-executor": self._executors.note}
        return {key: note for key, note in found.items() if note and self._known()}

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._executors.close()
        self._engine.close()
