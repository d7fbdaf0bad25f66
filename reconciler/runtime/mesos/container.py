"""One native container as the agent holds it, and what all work on containers shares: launcher, isolators, records."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from reconciler.runtime.containerizer import ContainerStatus
from reconciler.runtime.isolators.isolator import Context, Isolator, PassiveIsolator
from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher.child import FORWARDED
from reconciler.runtime.launcher.launcher import Launcher
from reconciler.runtime.launcher.pins import Pins
from reconciler.runtime.mesos.checkpoint import Checkpoints, Run
from reconciler.runtime.mesos.measuring import context_of
from reconciler.runtime.provisioner.images import Images
from reconciler.runtime.threads import in_thread
from reconciler.states import ContainerState

T = TypeVar("T")
Say = Callable[[str], None]
"""Told by work in a thread what it does next."""

STAGE_SECONDS = 30.0


class Container:
    """`lock` is held by whoever changes it (launch, destroy); `settled` is set once its end was seen and a clean-up
    tried, `over` once that has succeeded; `unwanted` tells a launch under way to give up at its next step, and
    `interrupt` ends the step that may take long. `watches`: the tasks of `watching`; `limiting`: the one that ends it
    for what they found; `limitations`: what isolators have to say of it for now, by their names."""

    def __init__(self, run: Run, checkpoints: Checkpoints) -> None:
        self.run = run
        self.pidfd = -1
        self.lock = asyncio.Lock()
        self.settled = asyncio.Event()
        self.over = asyncio.Event()
        self.unwanted = False
        self.interrupt: Callable[[], object] = lambda: None
        self.ending: asyncio.Task[None] | None = None
        self.limiting: asyncio.Task[None] | None = None
        self.watches: list[asyncio.Task[None]] = []
        self.limitations: dict[str, str] = {}
        self._checkpoints = checkpoints
        self._written: Run | None = None

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def alive(self) -> bool:
        """Its first process was forked and has not been seen to end."""
        return self.run.pid is not None and self.run.termination is None

    @property
    def serves(self) -> bool:
        """It runs and is to go on: others may enter it."""
        return self.run.state is ContainerState.RUNNING and self.alive and not self.unwanted

    def status(self) -> ContainerStatus:
        return replace(self.run.status(), limitations=dict(self.limitations) if self.alive else {})

    def dismiss(self) -> None:
        """Nobody wants it any more."""
        self.unwanted = True
        self.interrupt()

    def note(self, **changes: Any) -> None:
        """Change the run without writing it: for what is only shown."""
        self.run = replace(self.run, **changes)

    @classmethod
    def recovered(cls, run: Run, checkpoints: Checkpoints) -> Container:
        """One that an earlier agent wrote down as `run`."""
        container = cls(run, checkpoints)
        container._written = run
        return container

    def checkpoint(self, **changes: Any) -> None:
        """Written only if it differs from what is on disk: an agent that finds all as it was leaves no trace."""
        self.run = replace(self.run, **changes)
        if self.run != self._written:
            self._checkpoints.write(self.run)
            self._written = self.run

    def enter(self, state: ContainerState) -> None:
        self.note(state=state)

    def signal(self, number: int) -> bool:
        """Signal the payload, through its init if that can forward the signal; False when there is none."""
        if not self.alive or self.pidfd < 0:
            return False
        try:
            if number not in FORWARDED and self.run.plan.get("init", True) and self.run.plan.get("argv"):
                _signal_payload(self.run.pid or 0, self.pidfd, number)
            else:
                signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def watch_end(self, callback: Callable[[], None]) -> None:
        """Call back once, when the first process has ended."""
        loop, pidfd = asyncio.get_running_loop(), self.pidfd

        def ended() -> None:
            loop.remove_reader(pidfd)
            callback()

        loop.add_reader(pidfd, ended)

    def close(self) -> None:
        for task in (*self.watches, *([self.limiting] if self.limiting else [])):
            task.cancel()
        if self.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1


def _signal_payload(init: int, init_fd: int, number: int) -> None:
    """An init's first child is its payload: it has no earlier one, and ends with it. Raises ProcessLookupError."""
    payload = next(iter(proc.children(init)), None)
    if payload is None:
        raise ProcessLookupError
    pidfd = proc.pidfd(payload)
    try:
        signal.pidfd_send_signal(init_fd, 0)  # the init was there all the time, and so are its children, dead or alive
        if payload in proc.children(init):
            signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


@dataclass
class Workshop:
    """What launching and ending share. `all`: name → container; `quarantined`: name → why it is left alone."""

    launcher: Launcher
    isolators: Sequence[Isolator]
    checkpoints: Checkpoints
    pins: Pins
    images: Images
    notify: Callable[[str], None]
    clock: Callable[[], float]
    all: dict[str, Container] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)

    def context(self, container: Container) -> Context:
        alive = [each.run for each in self.all.values() if each.alive]
        return context_of(container.run, alive, self.checkpoints.directory(container.name))

    async def hop(self, what: str, work: Callable[[Say], T]) -> T:
        """Blocking work in a thread, never waited for longer than a limit. Raises TimeoutError that names `what`, and
        the step of it that the work said last."""
        at = [what]
        try:
            async with asyncio.timeout(STAGE_SECONDS):
                return await in_thread(lambda: work(lambda step: at.append(f"{what}: {step}")))
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"{at[-1]} took longer than {STAGE_SECONDS:.0f} s") from None

    async def stage(self, what: str, function: Callable[..., T], *args: object) -> T:
        """One step of it."""
        return await self.hop(what, lambda say: function(*args))

    async def each(
        self,
        method: str,
        call: Callable[[Isolator], T],
        *,
        of: Sequence[Isolator] | None = None,
        backwards: bool = False,
    ) -> list[T]:
        """Have every isolator (`of` those) that has that method do something, in order, in one thread. Raises what the
        first one raises, TimeoutError naming the one that is stuck."""
        passive = getattr(PassiveIsolator, method)
        isolators = self.isolators if of is None else of
        asked = [each for each in isolators if getattr(type(each), method) is not passive]
        if backwards:
            asked.reverse()

        def work(say: Say) -> list[T]:
            results = []
            for isolator in asked:
                say(isolator.name)
                results.append(call(isolator))
            return results

        return await self.hop(method, work) if asked else []

    def forget(self, container: Container) -> None:
        container.close()
        self.checkpoints.remove(container.name)
        self.all.pop(container.name, None)
        container.over.set()  # nobody waits for what is forgotten


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came within that time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
