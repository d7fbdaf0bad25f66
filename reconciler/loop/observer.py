"""Asks the containerizers what there is. A probe that hangs makes its own name unknown, and no other.

Invariant: an observation always ends, after `patience` without progress at the latest; what hangs is not
asked again until it has answered or was given up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from reconciler.errors import ReconcilerError
from reconciler.loop.values import Observed
from reconciler.runtime.containerizer import Containerizer, ContainerStatus

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sweep:
    """Names asked one after the other; `current` is the one that is being waited for."""

    queue: deque[str]
    current: str = ""
    found: dict[str, ContainerStatus] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def progress(self) -> int:
        return len(self.queue)


@dataclass(frozen=True, slots=True)
class _Stuck:
    task: asyncio.Task[None]
    since: float


class Observer:
    def __init__(
        self, containerizer: Containerizer, on_answer: Callable[[], None], *, patience: float, limit: float
    ) -> None:
        self._containerizer = containerizer
        self._on_answer = on_answer
        self._patience = patience
        self._limit = limit
        self._stuck: dict[str, _Stuck] = {}

    async def observe(self, names: Collection[str] = ()) -> Observed:
        """Of every container there is. names: asked about as well: a containerizer that could not recover knows none
        of its own, which does not make them absent."""
        self._give_up_old_probes()
        unknown = {name: self._hanging(stuck) for name, stuck in self._stuck.items()}
        found: dict[str, ContainerStatus] = {}
        known = dict.fromkeys([*self._containerizer.containers(), *names])
        queue = deque(name for name in known if name not in self._stuck)
        while queue:
            sweep = _Sweep(queue)
            task = asyncio.create_task(self._run(sweep), name="observation")
            finished = await self._until_no_progress(task, sweep)
            found |= sweep.found
            unknown |= sweep.unknown
            if finished and not task.cancelled() and (error := task.exception()) is not None:
                log.error("%s: its state could not be had", sweep.current, exc_info=error)
                unknown[sweep.current] = f"its state could not be had: {type(error).__name__}: {error}"
            elif not finished:
                unknown[sweep.current] = self._set_aside(sweep.current, task)
            queue = deque(sweep.queue)
            sweep.queue.clear()
        return Observed(found, unknown)

    async def _run(self, sweep: _Sweep) -> None:
        while sweep.queue:
            sweep.current = sweep.queue.popleft()
            try:
                status = await self._containerizer.status(sweep.current)
            except ReconcilerError as error:
                sweep.unknown[sweep.current] = error.message
            else:
                if status is not None:
                    sweep.found[sweep.current] = status

    async def _until_no_progress(self, task: asyncio.Task[None], sweep: _Sweep) -> bool:
        """Whether the sweep came to its end."""
        while True:
            before = sweep.progress, sweep.current
            done, _ = await asyncio.wait({task}, timeout=self._patience)
            if done:
                return True
            if before == (sweep.progress, sweep.current):
                return False

    def _set_aside(self, name: str, task: asyncio.Task[None]) -> str:
        self._stuck[name] = stuck = _Stuck(task, time.monotonic())

        def answered(finished: asyncio.Task[None]) -> None:
            if not finished.cancelled() and finished.exception() is not None:
                log.error("%s: its state could not be had", name, exc_info=finished.exception())
            self._stuck.pop(name, None)
            self._on_answer()

        task.add_done_callback(answered)
        return self._hanging(stuck)

    def _hanging(self, stuck: _Stuck) -> str:
        return "its state is not known: its containerizer does not answer; it is asked again"

    def _give_up_old_probes(self) -> None:
        for stuck in self._stuck.values():
            if time.monotonic() - stuck.since > self._limit:
                stuck.task.cancel()

    def close(self) -> None:
        for stuck in self._stuck.values():
            stuck.task.cancel()
