"""One task per container name, bounded in number, each with a goal; a newer goal supersedes an older one.

Invariants: at most one worker per name, and none beside one of its ancestors or descendants; a worker that
is slow gives its slot back, so that stuck containers never keep others from starting; a worker's bug is its
own name's trouble. Cancellation is an outcome with a name: Superseded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum

from reconciler.loop.values import Action, Trouble, ancestors

log = logging.getLogger(__name__)


class Stage(Enum):
    """How far a worker is. What ends a container is seen through, all else may be cut short."""

    WAITING = "waiting"
    ASKING = "asking the hooks"
    PROVIDING = "providing its image"
    ENDING = "ending"
    LAUNCHING = "launching"
    CHANGING = "changing"


_BEFORE_IT = frozenset({Stage.WAITING, Stage.ASKING, Stage.PROVIDING})
_CUT_SHORT = _BEFORE_IT | {Stage.LAUNCHING}


class Superseded(Enum):
    SUPERSEDED = "superseded by a newer desired state"


Ending = Trouble | Superseded | None
"""None: done."""


@dataclass(slots=True)
class Job:
    """What one worker is doing. The operation sets `stage` as it goes. said: how far it is with an image, "" when
    there is nothing to say."""

    action: Action
    stage: Stage = Stage.WAITING
    superseded: bool = False
    said: str = ""
    task: asyncio.Task[Ending] | None = None

    @property
    def may_start(self) -> bool:
        """It is to start a container and has not begun to."""
        return self.action.op.starts and self.stage in _BEFORE_IT

    def supersede(self) -> None:
        """Something else is wanted. It stops at its next transition; a launch, a pull, a hook, the wait for a slot, at
        once."""
        self.superseded = True
        if self.task is not None and self.stage in _CUT_SHORT:
            self.task.cancel()


class Slots:
    """Bounds how many launches run at a time. A slot is lent for `lease` seconds at most."""

    def __init__(self, count: int, lease: float) -> None:
        self._slots = asyncio.Semaphore(count)
        self._lease = lease

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        await self._slots.acquire()
        timer = asyncio.get_running_loop().call_later(self._lease, self._slots.release)
        try:
            yield
        finally:
            if timer.when() > asyncio.get_running_loop().time():
                timer.cancel()
                self._slots.release()


class Workers:
    """`done` is called on the event loop with the job and its outcome, after the job has left `busy`."""

    def __init__(self, done: Callable[[Job, Ending, BaseException | None], None]) -> None:
        self.busy: dict[str, Job] = {}
        self._above: Counter[str] = Counter()  # how many busy names each ancestor has below it
        self._done = done

    def start(self, action: Action, work: Callable[[Job], Coroutine[None, None, Ending]]) -> None:
        job = Job(action)
        self.busy[action.name] = job
        self._above.update(ancestors(action.name))
        job.task = asyncio.create_task(work(job), name=f"{action.op} {action.name}")
        job.task.add_done_callback(lambda task: self._over(job, task))

    def _over(self, job: Job, task: asyncio.Task[Ending]) -> None:
        self.busy.pop(job.action.name, None)
        self._above.subtract(ancestors(job.action.name))
        if task.cancelled():
            self._done(job, Superseded.SUPERSEDED, None)
        elif (error := task.exception()) is not None:
            log.error("%s: %s failed in an unforeseen way", job.action.name, job.action.op, exc_info=error)
            self._done(job, None, error)
        else:
            self._done(job, task.result(), None)

    def kin(self, name: str) -> Iterator[Job]:
        """Jobs of the name's ancestors and descendants."""
        for ancestor in ancestors(name):
            if ancestor in self.busy:
                yield self.busy[ancestor]
        if self._above[name]:
            yield from [job for other, job in self.busy.items() if other.startswith(name + ".")]

    async def finish(self, seconds: float) -> None:
        """Let what is under way come to its end; cut short what does not."""
        tasks = {job.task for job in self.busy.values() if job.task is not None}
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=seconds)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=1.0)
