"""How native containers end, by themselves or because they are destroyed, until nothing of them is left.

    first process gone ▸ status read ▸ termination written ▸ the rest killed ▸ cgroups removed ▸ isolators undone
    limited: written down ▸ signal ▸ grace ▸ kill ▸ as above
    destroy: nested ones first ▸ signal ▸ grace ▸ kill ▸ as above ▸ checkpoint removed

Every stage can be repeated: what is stuck is named in `message`, `destroy` raises Retryable, and the next
`destroy` goes on from there; a clean-up that nobody asked for is repeated by itself, later each time. A stuck child
does not keep its siblings, or its parent's processes, alive. When the grace is over is written down before the signal
is sent, so that an agent that dies neither prolongs nor shortens it: the next one goes on (`go_on`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Awaitable, Callable

from reconciler.errors import ReconcilerError, Retryable
from reconciler.runtime import signals
from reconciler.runtime.containerizer import Termination
from reconciler.runtime.isolators.isolator import Context, Limitation
from reconciler.runtime.kernel import proc, syscalls
from reconciler.runtime.launcher import attaching
from reconciler.runtime.mesos.checkpoint import EXIT, REAPED
from reconciler.runtime.mesos.container import Container, Workshop, within
from reconciler.runtime.mesos.termination import terminate
from reconciler.states import ContainerState, Reason

log = logging.getLogger(__name__)

REMOVE_SECONDS = 10.0
KILL_SECONDS = 10.0
STATUS_SECONDS = 2.0
PUMP_SECONDS = 1.0
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0  # seconds between attempts at what is stuck, doubling
_POLL = 0.005


class Endings:
    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop
        self._persisting: dict[str, asyncio.Task[None]] = {}

    # ---- by itself

    def watch(self, container: Container) -> None:
        """Have the end of its first process noticed."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            container.ending = loop.create_task(self.ended(container), name=f"end of {container.name}")

        container.watch_end(ended)

    async def ended(self, container: Container) -> None:
        """The first process is gone: find out how, and clean up."""
        if container.run.termination is None:
            status, reaped = await self._final_status(container)
            limited = self._shop.checkpoints.read_limitation(container.name)
            oom = await self._out_of_memory(container)
            if container.run.termination is None:  # a failed launch may have said so meanwhile
                now, gone = self._shop.clock(), self.parent_is_gone(container)
                ended = terminate(
                    exit_status=status, reaped=reaped, parent_ended=gone, oom=oom, limited=limited, now=now
                )
                container.checkpoint(termination=ended, state=ContainerState.DESTROYING)
                self._shop.notify(container.name)
                await self.clean_up(container)
        container.settled.set()
        self._shop.notify(container.name)

    async def _final_status(self, container: Container) -> tuple[int | None, int | None]:
        """The init's and the keeper's record. Polled: the keeper reaps after the kernel has told us."""
        deadline = time.monotonic() + STATUS_SECONDS
        while True:
            status = self._shop.checkpoints.read_end(container.name, EXIT)
            reaped = self._shop.checkpoints.read_end(container.name, REAPED)
            if reaped is None:
                held = container.pidfd >= 0
                reaped = syscalls.exit_status_of(container.pidfd) if held else self._shop.pins.status(container.name)
            if status is not None or reaped is not None or time.monotonic() > deadline:
                return status, reaped
            await asyncio.sleep(_POLL)

    def parent_is_gone(self, container: Container) -> bool:
        """Any ancestor counts: all below it are killed at once, and the nearest may be the last to die."""
        name = container.name
        while name := name.rpartition(".")[0]:
            parent = self._shop.all.get(name)
            if parent is None or parent.run.pid is None:
                return True
            stat = proc.read_stat(parent.run.pid)
            if stat is None or stat.start != parent.run.start or stat.dead or stat.exiting:
                return True
        return False

    async def _out_of_memory(self, container: Container) -> str | None:
        context = self._shop.context(container)
        with contextlib.suppress(OSError, ReconcilerError):
            found = await self._shop.each("limitation", lambda isolator: isolator.limitation(context))
            return next((limitation.message for limitation in found if limitation), None)
        return None

    def limit(self, container: Container, found: Limitation) -> None:
        """For what it did it is to end, with its grace; written down first, so that whoever sees the end knows."""
        if not container.serves:
            return
        self._shop.checkpoints.write_limitation(container.name, found)
        log.warning("%s: %s: ended", container.name, found.message)
        container.limiting = asyncio.get_running_loop().create_task(
            self._end(container), name=f"limit {container.name}"
        )

    async def _end(self, container: Container) -> None:
        """Without forgetting it: the loop decides what becomes of a run that ended."""
        container.signal(signals.number(container.run.kill_signal))
        if not await within(container.settled, container.run.grace):
            with contextlib.suppress(Retryable):  # what is stuck is named, and whoever destroys it goes on
                await self._kill_and_wait(container)

    async def clean_up(self, container: Container) -> None:
        """Kill what is left and remove what was made; what is stuck is said in `message`."""
        try:
            await self._kill_all(container)
            await self._undo(container)
        except (OSError, ReconcilerError) as error:
            log.warning("%s: clean-up is stuck: %s", container.name, error)
            container.note(message=f"clean-up is stuck: {_reason(error)}; it is tried again")
            self._persist(container.name, lambda: self._finish_later(container))
            return
        self._cleaned(container)

    def _cleaned(self, container: Container) -> None:
        container.close()
        container.checkpoint(state=None, message="")
        container.over.set()

    async def _finish_later(self, container: Container) -> None:
        async with container.lock:
            if self._shop.all.get(container.name) is container and not container.over.is_set():
                await self._finish(container)
                self._cleaned(container)

    def _persist(self, name: str, work: Callable[[], Awaitable[object]], *, at_once: bool = False) -> None:
        """Repeat it in the background, later each time, until it succeeds; once per name."""
        if name in self._persisting:
            return

        async def persist() -> None:
            pause = 0.0 if at_once else _FIRST_RETRY
            while True:
                await asyncio.sleep(pause)
                pause = max(_FIRST_RETRY, min(2 * pause, _LAST_RETRY))
                try:
                    await work()
                    break
                except (OSError, ReconcilerError) as error:
                    log.warning("%s: %s", name, error)
            self._shop.notify(name)

        task = self._persisting[name] = asyncio.get_running_loop().create_task(persist(), name=f"end of {name}")
        task.add_done_callback(lambda _: self._persisting.pop(name, None))

    async def close(self) -> None:
        tasks = list(self._persisting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _kill_all(self, container: Container) -> None:
        await self._shop.launcher.kill(container.name, container.run.pid or 0, container.run.start or 0)

    async def _undo(self, container: Container) -> None:
        if container.run.plan.get("pump"):  # what it still has of the output belongs in the log of a run that is over
            await asyncio.to_thread(attaching.settled, self._shop.checkpoints.directory(container.name), PUMP_SECONDS)
        await self._shop.launcher.destroy(container.name, REMOVE_SECONDS)
        if not container.run.plan.get("init", True):
            await asyncio.to_thread(self._shop.pins.unpin, container.name)
        context = self._shop.context(container)
        await self._shop.each("cleanup", lambda isolator: isolator.cleanup(context), backwards=True)

    async def give_up(self, container: Container) -> None:
        """A launch ended before there was a run to speak of: nothing may be left of it. What is, `destroy` takes."""
        try:
            await self._kill_and_wait(container)
            await self._finish(container)
        except (OSError, ReconcilerError) as error:
            log.warning("%s: a failed launch could not be undone yet: %s", container.name, error)
            return
        self._shop.forget(container)

    # ---- destroyed

    async def destroy(self, name: str, grace: float | None) -> Termination | None:
        if (wanted := self._shop.all.get(name)) is not None:
            wanted.dismiss()  # from here on nothing is nested in it
            if wanted.alive and not wanted.lock.locked():
                wanted.checkpoint(state=ContainerState.DESTROYING)  # before what is nested in it ends
        children = [other for other in self._shop.all if other.rpartition(".")[0] == name]
        results = await asyncio.gather(*(self.destroy(child, grace) for child in children), return_exceptions=True)
        container = self._shop.all.get(name)
        if container is None:
            await self._destroy_unknown(name)
            termination = None
        else:
            termination = await self._destroy(container, grace)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return termination

    async def _destroy(self, container: Container, grace: float | None) -> Termination | None:
        container.dismiss()
        async with container.lock:
            if self._shop.all.get(container.name) is not container:
                return container.run.termination
            if container.alive and not await within(container.settled, self._tell(container, grace)):
                await self._kill_and_wait(container)
            await self._finish(container)
            self._shop.forget(container)
            return container.run.termination

    def _tell(self, container: Container, grace: float | None) -> float:
        """Signal it; returns the seconds it has from now. One that was told before gets no further grace, but may get
        less; it is signalled again, since an agent may have died just before it did so."""
        now, told = time.clock_gettime(time.CLOCK_BOOTTIME), container.run.kill_at
        kill_at = now + (container.run.grace if grace is None else grace)
        if told is not None:
            kill_at = told if grace is None else min(told, kill_at)
        container.checkpoint(state=ContainerState.DESTROYING, kill_at=kill_at)
        self._shop.notify(container.name)
        if told is None or kill_at > now:
            container.signal(signals.number(container.run.kill_signal))
        return max(0.0, kill_at - now)

    def go_on(self, name: str) -> None:
        """With a destroy that an earlier agent was at."""
        self._persist(name, lambda: self.destroy(name, None), at_once=True)

    async def _kill_and_wait(self, container: Container) -> None:
        await self._kill_all(container)
        if container.alive and not await within(container.settled, KILL_SECONDS):
            if not container.alive:
                return  # dead, and its clean-up is what takes time
            stat = proc.read_stat(container.run.pid or 0)
            where = f"pid {container.run.pid} is in state {stat.state}" if stat else "its end was not noticed"
            message = f"{container.name}: not dead {KILL_SECONDS:.0f} s after SIGKILL, {where}; it is tried again"
            container.note(message=message)
            raise Retryable(message, Reason.DESTROY_FAILED)

    async def _finish(self, container: Container) -> None:
        """The clean-up, unless it is done already. Raises Retryable with what is stuck."""
        if container.ending is not None:
            await asyncio.wait([container.ending], timeout=REMOVE_SECONDS + STATUS_SECONDS)
        if container.over.is_set():
            return
        try:
            await self._kill_all(container)
            await self._undo(container)
        except (OSError, ReconcilerError) as error:
            message = f"{container.name}: its end is stuck: {_reason(error)}; it is tried again"
            container.note(message=message)
            raise Retryable(message, Reason.DESTROY_FAILED) from error

    async def _destroy_unknown(self, name: str) -> None:
        """No such container to our knowledge: make sure that the kernel agrees."""
        try:
            await self._shop.launcher.kill(name, 0, 0)
            await self._shop.launcher.destroy(name, REMOVE_SECONDS)
            context = Context(name, {}, self._shop.checkpoints.directory(name))
            await self._shop.each("cleanup", lambda isolator: isolator.cleanup(context), backwards=True)
        except (OSError, ReconcilerError) as error:
            raise Retryable(
                f"{name}: its end is stuck: {_reason(error)}; it is tried again", Reason.DESTROY_FAILED
            ) from error
        await asyncio.to_thread(self._shop.checkpoints.remove, name)
        self._shop.quarantined.pop(name, None)


def _reason(error: Exception) -> str:
    """Stage, errno's name, and what is in the way."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror}, {errno.errorcode.get(error.errno, error.errno)}{where}"
