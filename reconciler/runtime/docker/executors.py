"""The executors of an engine's containers, from the agent's side: each that runs has one, whatever became of the last.

Whether one is at work is asked of the kernel (the lock of the container's mark), so neither a dead agent nor a dead
keeper makes a second one. What one wrote is read where the engine knows nothing any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from reconciler.errors import ReconcilerError
from reconciler.runtime.docker.executor import executor, record
from reconciler.runtime.docker.marks import Marks
from reconciler.runtime.docker.tracked import Tracked
from reconciler.runtime.launcher import channel
from reconciler.runtime.launcher.launcher import KeeperLink

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0  # one that was just begun has yet to take its lock
_TOLD_SECONDS = 2.0

Json = dict[str, Any]


class Begin(Protocol):
    """One way to have an executor."""

    async def begin(self, order: Json) -> None:
        """Raises OSError, or Retryable."""
        ...

    async def end(self, name: str, pid: int | None) -> None:
        """Its container is gone. pid: who holds the mark; None for nobody."""
        ...

    def close(self) -> None: ...


class ByKeeper:
    """A child of the keeper."""

    def __init__(self, runtime_dir: Path) -> None:
        self._link = KeeperLink(runtime_dir, None)

    async def begin(self, order: Json) -> None:
        await (await self._link.get()).call("executor", order=order)

    async def end(self, name: str, pid: int | None) -> None:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self._link.close()


@dataclass(frozen=True, slots=True)
class Look:
    """container: what its executor wrote of its end, None before; kill_at: seconds of CLOCK_BOOTTIME; pid: of the
    executor at work, 0 for one that cannot be seen from here."""

    container: Json | None = None
    id: str = ""
    kill_at: float | None = None
    pid: int | None = None


def look(marks: Marks, name: str) -> Look:
    """Blocks, for no longer than a file takes."""
    try:
        found, pid = record.look(str(marks.path(name)))
    except OSError as error:
        log.warning("%s: what its executor wrote cannot be read: %s", name, error)
        return Look()
    if found is None:
        return Look(pid=pid)
    return Look(found["container"], found["id"], found["killAt"], pid)


class Executors:
    def __init__(self, marks: Marks, url: str, runtime_dir: Path, begin: Begin) -> None:
        self._marks, self._url, self._runtime_dir, self._begin = marks, url, runtime_dir, begin
        self._begun: dict[str, float] = {}
        self._beginning: set[asyncio.Task[None]] = set()
        self.note = ""

    async def look(self, names: Iterable[str]) -> dict[str, Look]:
        return await asyncio.to_thread(lambda: {name: look(self._marks, name) for name in names})

    def ensure(self, containers: Iterable[Tracked], seen: Mapping[str, Look]) -> None:
        """Begin those that are not there, and wait for none; it is tried again at the next look."""
        for container in containers:
            at_work = container.name in seen and seen[container.name].pid is not None
            if not at_work and self._begun.get(container.id, 0.0) <= time.monotonic() - AGAIN_SECONDS:
                self._begun[container.id] = float("inf")
                task = asyncio.create_task(self._ensure(container), name=f"executor of {container.name}")
                self._beginning.add(task)
                task.add_done_callback(self._beginning.discard)

    async def _ensure(self, container: Tracked) -> None:
        try:
            await self._begin.begin(self._order(container))
            self.note = ""
        except (OSError, ReconcilerError) as error:
            if not self.note:
                log.warning("%s: no executor: %s", container.name, error)
            self.note = (
                f"{container.name} has no executor: {error}; it runs on, and how it ends is lost if it is removed "
                "from the engine while no agent runs; it is tried again"
            )
        finally:
            if container.termination is None:
                self._begun[container.id] = time.monotonic()

    def _order(self, container: Tracked) -> Json:
        mark, runtime = str(self._marks.path(container.name)), str(self._runtime_dir)
        return {"name": container.name, "id": container.id, "url": self._url, "mark": mark, "runtime": runtime}

    async def tell(self, container: Tracked, kill_at: float) -> None:
        """Have it killed then, whether or not we live. Where nobody listens it is up to us alone."""
        try:
            await asyncio.to_thread(self._tell, container.id, kill_at)
        except (OSError, ValueError) as error:
            log.info("%s: its executor was not told when to kill it: %s", container.name, error)

    def _tell(self, id: str, kill_at: float) -> None:
        directory = self._runtime_dir / executor.SOCKETS
        with channel.connect(str(directory), executor.socket_name(id), timeout=_TOLD_SECONDS) as sock:
            channel.send(sock, {"killAt": kill_at})
            if channel.receive(sock) is None:
                raise ConnectionResetError("it has gone")

    async def dismiss(self, container: Tracked) -> None:
        """The container is gone from the engine: so is its executor, and what that had."""
        seen = (await self.look([container.name]))[container.name]
        self._begun.pop(container.id, None)
        await self._begin.end(container.name, seen.pid)
        with contextlib.suppress(OSError):
            (self._runtime_dir / executor.SOCKETS / executor.socket_name(container.id)).unlink()
        with contextlib.suppress(OSError):
            (self._runtime_dir / executor.SOCKETS).rmdir()

    async def close(self) -> None:
        for task in self._beginning:
            task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)
        self._begin.close()
