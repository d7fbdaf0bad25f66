"""After a restart of the agent: which containers are still there, and what becomes of the rest.

    no checkpoint, but a cgroup or a ward of the keeper     orphan: destroyed
    unreadable checkpoint                                   quarantined: this one alone, nothing is done to it
    of another boot, or its first process is gone           ended meanwhile: its status is read, then cleaned up
    forked but never released                               the keeper ended it with its agent: destroyed
    its first process runs                                  adopted: a pidfd, and the keeper looks after it
    it runs and was being destroyed                         adopted, and its destruction goes on with its old deadline

A process is the one we launched only if boot id, pid and start time agree; the pidfd is opened before the
comparison, so that it cannot come to mean another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time

from reconciler.errors import ReconcilerError, Retryable
from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher.launcher import Known
from reconciler.runtime.mesos.checkpoint import EXIT, REAPED, Run, Unreadable
from reconciler.runtime.mesos.container import Container, Workshop
from reconciler.runtime.mesos.ending import Endings
from reconciler.runtime.mesos.watching import Watching
from reconciler.states import ContainerState

log = logging.getLogger(__name__)

_RELEASE_DOUBT_SECONDS = 0.2
_KEEPER_RETRY_SECONDS = 1.0


class Recovery:
    def __init__(self, workshop: Workshop, endings: Endings, watching: Watching, boot: str) -> None:
        self._shop = workshop
        self._endings = endings
        self._watching = watching
        self._boot = boot
        self._readopting: asyncio.Task[None] | None = None
        self._keeper_gone = False
        self.note: str | None = None  # why there is no keeper at the moment

    async def recover(self) -> None:
        """Raises OSError when there can be no keeper, which no container can be launched without."""
        self._shop.quarantined.clear()  # of an attempt that failed
        runs = await asyncio.to_thread(self._read)
        alive = {run.name: _known(run) for run in runs if self._is_alive(run)}
        orphans = await self._shop.launcher.recover(alive, self._open_reaped)
        there = {name: self._shop.checkpoints.directory(name) for name in (*self._shop.quarantined, *map(_name, runs))}
        await self._shop.each("recover", lambda isolator: isolator.recover(there))
        self._shop.launcher.watch_keeper(self._keeper_lost)
        for name in sorted(orphans - {run.name for run in runs} - set(self._shop.quarantined)):
            log.warning("%s: an orphan without a record: destroyed", name)
            with contextlib.suppress(Retryable):
                await self._endings.destroy(name, grace=0)
        containers = [Container.recovered(run, self._shop.checkpoints) for run in runs]
        self._shop.all.update({container.name: container for container in containers})
        taking = (self._take_up(container, running=container.name in alive) for container in containers)
        results = await asyncio.gather(*taking, return_exceptions=True)
        for container, result in zip(containers, results, strict=True):
            if isinstance(result, (OSError, ReconcilerError)):
                self._set_aside(container, str(result))
            elif isinstance(result, BaseException):
                raise result
        for container in containers:  # only now does it see all that is nested in it
            if container.alive and container.run.state is ContainerState.DESTROYING:
                self._endings.go_on(container.name)
            elif container.serves and (found := self._shop.checkpoints.read_limitation(container.name)) is not None:
                self._endings.limit(container, found)
            elif container.serves:
                self._watching.begin(container)

    async def close(self) -> None:
        self._shop.launcher.watch_keeper(lambda: None)
        if self._readopting is not None:
            self._readopting.cancel()

    def _open_reaped(self, name: str) -> int:
        return self._shop.checkpoints.open_end(name, REAPED, fresh=False)

    def _read(self) -> list[Run]:
        runs = []
        for name in self._shop.checkpoints.names():
            try:
                run = self._shop.checkpoints.read(name)
            except Unreadable as error:
                self._shop.quarantined[name] = f"its checkpoint cannot be read, so it is left alone: {error}"
                log.error("%s: %s", name, self._shop.quarantined[name])
                continue
            if run is not None:
                runs.append(run)
            else:  # its agent died before there was a process, which comes after the record
                self._shop.checkpoints.remove(name)
        return runs

    def _set_aside(self, container: Container, why: str) -> None:
        """One that cannot be taken up does not keep the others from being."""
        container.close()
        self._shop.all.pop(container.name, None)
        self._shop.quarantined[container.name] = f"it could not be taken up again, so it is left alone: {why}"
        log.error("%s: %s", container.name, self._shop.quarantined[container.name])

    def _is_alive(self, run: Run) -> bool:
        if run.boot != self._boot or run.termination is not None or run.pid is None or run.start is None:
            return False
        return proc.is_running(run.pid, run.start)

    async def _take_up(self, container: Container, *, running: bool) -> None:
        run = container.run
        if run.termination is not None:
            await self._endings.clean_up(container)
        elif running and _hold(container) and (_was_running(run) or await _was_released(run)):
            self._adopt(container)
        elif self._never_ran(run):
            container.note(pid=None, start=None)
            await self._endings.give_up(container)
        else:
            await self._endings.ended(container)

    def _never_ran(self, run: Run) -> bool:
        """Not forked yet when its agent died, or still blocked, so that the keeper killed it: not a run that failed."""
        if run.pid is None:
            return True
        ends = self._shop.checkpoints
        if _was_running(run) or ends.read_end(run.name, EXIT) is not None:
            return False
        return ends.read_end(run.name, REAPED) in (None, int(signal.SIGKILL))

    def _adopt(self, container: Container) -> None:
        run = container.run
        namespaces = run.namespaces or proc.namespaces(run.pid or "self")
        started_at = run.started_at or self._shop.clock()
        state = run.state if run.state is ContainerState.DESTROYING else ContainerState.RUNNING
        container.checkpoint(state=state, started_at=started_at, namespaces=namespaces)
        self._endings.watch(container)

    # ---- the keeper died

    def _keeper_lost(self) -> None:
        log.warning("the keeper has gone: starting another; containers stay")
        self._keeper_gone = True
        if self._readopting is None or self._readopting.done():
            self._readopting = asyncio.get_running_loop().create_task(self._readopt(), name="readopt")

    async def _readopt(self) -> None:
        """One at a time: a container that a keeper is given twice has descriptors there that nobody closes."""
        while self._keeper_gone:
            self._keeper_gone = False
            alive = {c.name: _known(c.run) for c in self._shop.all.values() if c.alive}
            try:
                await self._shop.launcher.recover(alive, self._open_reaped)
                self.note = None
            except OSError as error:
                self._keeper_gone = True
                self.note = f"the keeper has gone and no other could be started: {error}; containers stay, trying again"
                log.error("%s", self.note)
                await asyncio.sleep(_KEEPER_RETRY_SECONDS)


def _name(run: Run) -> str:
    return run.name


def _known(run: Run) -> Known:
    return Known(name=run.name, run=run.run, pid=run.pid or 0, start=run.start or 0)


def _hold(container: Container) -> bool:
    """A pidfd of that very process; False when it has ended."""
    run = container.run
    assert run.pid is not None and run.start is not None
    try:
        container.pidfd = proc.pidfd(run.pid)
    except ProcessLookupError:
        return False
    return proc.is_running(run.pid, run.start)


def _was_running(run: Run) -> bool:
    return run.state in (ContainerState.RUNNING, ContainerState.DESTROYING)


async def _was_released(run: Run) -> bool:
    """The agent died around the release. A child that was not released ends with its agent, at once."""
    assert run.pid is not None and run.start is not None
    deadline = time.monotonic() + _RELEASE_DOUBT_SECONDS
    while time.monotonic() < deadline:
        if not proc.is_running(run.pid, run.start):
            return False
        await asyncio.sleep(0.01)
    return True
