"""How a container on an engine is ended: signal ▸ grace ▸ kill ▸ remove. Each may be repeated, by a later agent too.

Its executor is told when the grace is over before the signal goes out, and kills it then if no agent does.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from reconciler.errors import Retryable
from reconciler.runtime import signals
from reconciler.runtime.docker.engine import CONFLICT, NOT_FOUND, Engine, Refused
from reconciler.runtime.docker.executors import Executors
from reconciler.runtime.docker.tracked import Tracked
from reconciler.states import Reason

KILL_SECONDS = 10.0


class Ending:
    """look: has the engine looked at, at once; lost: why nothing is known of what it has, "" when it is; forget:
    what is kept of a name besides the engine's, in a thread."""

    def __init__(
        self,
        engine: Engine,
        executors: Executors,
        *,
        look: Callable[[], None],
        lost: Callable[[], str],
        forget: Callable[[str], None],
    ) -> None:
        self._engine, self._executors = engine, executors
        self._look, self._lost, self._forget = look, lost, forget

    async def signal(self, container: Tracked, number: int) -> bool:
        """Whether there was one to signal. Raises Retryable."""
        try:
            await self._engine.call(lambda api: api.kill(container.id, number))
        except Refused as error:
            if error.status not in (NOT_FOUND, CONFLICT):  # gone, or not running any more
                raise Retryable(f"{container.name}: {error}", Reason.DESTROY_FAILED) from error
            self._look()
            return False
        return True

    async def end(self, container: Tracked, grace: float | None) -> None:
        """Until it has been seen to end. Raises Retryable."""
        left = await self._patience(container, grace)
        for number, seconds in ((signals.number(container.kill_signal), left), (int(signal.SIGKILL), KILL_SECONDS)):
            await self.signal(container, number)
            self._look()
            try:
                async with asyncio.timeout(seconds):
                    await container.over.wait()
                    return
            except TimeoutError:
                continue
        if lost := self._lost():
            raise Retryable(lost, Reason.STATE_UNKNOWN)
        raise Retryable(
            f"{container.name}: the engine says it still runs {KILL_SECONDS:.0f} s after SIGKILL; it is tried again",
            Reason.DESTROY_FAILED,
        )

    async def _patience(self, container: Tracked, grace: float | None) -> float:
        """Seconds until it is killed. An agent before us may have said when that is, which we can bring forward and not
        put off."""
        seen = (await self._executors.look([container.name]))[container.name]
        told = container.kill_at if seen.id != container.id else seen.kill_at
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        kill_at = now + (container.grace if grace is None else grace)
        if told is not None:
            kill_at = told if grace is None else min(told, kill_at)
        if kill_at != told:
            container.kill_at = kill_at
            await self._executors.tell(container, kill_at)
        return max(0.0, kill_at - now)

    async def remove(self, id: str, name: str, container: Tracked | None = None) -> None:
        """With its anonymous volumes. Gone is success. Raises Retryable."""
        try:
            if id:
                await self._engine.call(lambda api: api.remove_container(id, v=True, force=True))
        except Refused as error:
            if error.status != NOT_FOUND:
                raise Retryable(f"{name}: {error}; it is tried again", Reason.DESTROY_FAILED) from error
        if container is not None:
            await self._executors.dismiss(container)
        await asyncio.to_thread(self._forget, name)
