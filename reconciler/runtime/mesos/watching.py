"""What isolators watch while containers run: one mechanism, for all of them and under both launchers.

    runs ─▶ every? ─▶ look, after that time and again ─▶ nothing │ a sentence for `status` │ the end of the run

Each look has a thread of its own and a limit. One that is stuck is waited for before the next one at the same
container; of one isolator's, only a few are at it at a time, since most of them read disks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from reconciler.errors import ReconcilerError
from reconciler.runtime.isolators.isolator import Isolator, Limitation, PassiveIsolator
from reconciler.runtime.mesos.container import Container, Workshop, within
from reconciler.runtime.threads import in_thread
from reconciler.states import Reason

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
_AT_A_TIME = 2
_END_SECONDS = 2.0
"""Within which the end of a run is noticed that was over before it could be looked at."""

Limit = Callable[[Container, Limitation], None]


class Watching:
    """limit: has a run ended for what it did."""

    def __init__(self, workshop: Workshop, limit: Limit) -> None:
        self._shop = workshop
        self._limit = limit
        watchers = [each for each in workshop.isolators if type(each).watch is not PassiveIsolator.watch]
        self._watchers = [(each, asyncio.Semaphore(_AT_A_TIME)) for each in watchers]

    def begin(self, container: Container) -> None:
        """It runs, or what is to be watched in it has changed."""
        for task in container.watches:
            task.cancel()
        container.watches = []
        if self._watchers:
            container.watches = [asyncio.create_task(self._ask(container), name=f"watches of {container.name}")]

    async def _ask(self, container: Container) -> None:
        """Once for all isolators: most containers have nothing to be watched."""
        context = self._shop.context(container)
        try:
            found = await self._shop.each("every", lambda isolator: (isolator.name, isolator.every(context)))
        except (OSError, ReconcilerError) as error:
            if not await within(container.settled, _END_SECONDS) and container.serves:  # else it has just ended
                log.warning("%s: it is not watched: %s", container.name, error)
            return
        seconds = dict(found)
        for isolator, turn in self._watchers:
            every = seconds.get(isolator.name)
            if every is None:
                self._report(container, isolator, "")
                continue
            watch = self._watch(container, isolator, turn, every)
            container.watches.append(asyncio.create_task(watch, name=f"{isolator.name} of {container.name}"))

    async def _watch(self, container: Container, isolator: Isolator, turn: asyncio.Semaphore, every: float) -> None:
        """Until it has ended, or is to."""
        while True:
            await asyncio.sleep(every)
            if not container.serves:
                return
            found = await self._look(container, isolator, turn)
            if found is not None and found.ends:
                self._limit(container, found)
                return
            self._report(container, isolator, found.message if found else "")

    async def _look(self, container: Container, isolator: Isolator, turn: asyncio.Semaphore) -> Limitation | None:
        context = self._shop.context(container)
        async with turn:
            look = asyncio.create_task(in_thread(lambda: isolator.watch(context)))
            done, _ = await asyncio.wait([look], timeout=LOOK_SECONDS)
        if not done:
            late = f"{isolator.name}: a look has taken longer than {LOOK_SECONDS:.0f} s"
            self._report(container, isolator, late)
        try:
            return await look
        except (OSError, ReconcilerError) as error:
            return Limitation(Reason.LIMIT_EXCEEDED, f"{isolator.name}: it cannot be watched: {error}", ends=False)

    def _report(self, container: Container, isolator: Isolator, message: str) -> None:
        if container.limitations.get(isolator.name, "") == message:
            return
        log.warning("%s: %s", container.name, message or f"{isolator.name} has nothing to report any more")
        container.limitations.pop(isolator.name, None)
        if message:
            container.limitations[isolator.name] = message
        self._shop.notify(container.name)
