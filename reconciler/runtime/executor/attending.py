"""One executor as the agent has it: the socket, the connection, and what is done when its time has come.

    listening ─▶ connected, by someone of the container ─▶ SUBSCRIBE ─▶ UPDATE … ─▶ gone: it may come back

Invariants: what an executor said is written down before it is acknowledged, what it is told before it is sent. What a
container may cost is bounded: bytes of a line, messages a second, connections at a time. Of two that subscribe the
later one is heard, as in Mesos.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from reconciler.errors import ReconcilerError
from reconciler.runtime import signals
from reconciler.runtime.containerizer import ContainerStatus
from reconciler.runtime.executor import listening, messages, session
from reconciler.runtime.executor.messages import BadMessage, Subscribe, Update
from reconciler.runtime.executor.records import Records
from reconciler.runtime.executor.session import Session, Step

log = logging.getLogger(__name__)

SUBSCRIBE_SECONDS = 10.0
LOOK_SECONDS = 2.0
_AT_A_TIME = 4
_RATE, _BURST = 20.0, 1000.0
"""Connections and messages of one container: a second in the long run, and at once."""
_PENALTY = 1.0
"""Seconds for which one who was not understood keeps its place among the connections."""
_UNSENT = 1024 * 1024
"""Bytes that an executor may leave unread."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to subscribe after the launch, as Mesos's executor_registration_timeout, and to come back."""

    registration: float = 60.0
    reregistration: float = 10.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an executor's container is asked and told through; `see` and `kill` of the containerizer that has it."""

    records: Records
    timeouts: Timeouts
    notify: Callable[[str], None]
    see: Callable[[str], Awaitable[ContainerStatus | None]]
    kill: Callable[[str, int], Awaitable[bool]]


def boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Attendant:
    def __init__(self, session: Session, around: Surroundings) -> None:
        self.session = session
        self._around = around
        self._writer: asyncio.StreamWriter | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._moved = asyncio.Event()
        self._came = asyncio.Event()
        self._credit, self._paid_at = _BURST, 0.0
        self.trouble = ""

    @property
    def connected(self) -> bool:
        return self._writer is not None

    def begin(self) -> None:
        """Its container runs, or may run."""
        now, timeouts = boot_clock(), self._around.timeouts
        new, name = replace(self.session, reconnect_by=now + timeouts.reregistration), self.session.name
        if not self.session.subscribed:
            by = now + (timeouts.registration if self.session.register_by is None else timeouts.reregistration)
            new = replace(self.session, register_by=max(by, self.session.register_by or by))
        with contextlib.suppress(OSError):  # what is not written down now is soon
            self.keep(new)
        self._tasks = [
            asyncio.create_task(self._listen(), name=f"executor of {name}"),
            asyncio.create_task(self._watch(), name=f"deadlines of the executor of {name}"),
        ]

    async def close(self) -> None:
        tasks = [*self._tasks, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- what is decided

    def keep(self, new: Session) -> None:
        """Written down, if it is another one. Raises OSError, nothing having changed then."""
        if new == self.session:
            return
        self._around.records.save(new)
        self.session = new
        self._moved.set()
        self._around.notify(new.name)

    def take(self, step: Step) -> None:
        new, told = step
        self.keep(new)
        for message in told:
            self._send(message)
        if session.to_be_ended(self.session):
            self.take(session.ended(self.session, boot_clock()))

    def _send(self, message: bytes) -> None:
        """To one that is not there it is said when it subscribes."""
        writer = self._writer
        if writer is None:
            return
        if writer.transport.get_write_buffer_size() > _UNSENT:
            log.warning("%s: its executor does not read what it is told", self.session.name)
            writer.transport.abort()
            return
        writer.write(message)

    # ---- time

    async def _watch(self) -> None:
        """Until its container has ended. While that cannot be told, nobody is late: who comes is not known either."""
        blind = False
        while True:
            self._moved.clear()
            wait = LOOK_SECONDS
            try:
                seen = await self._around.see(self.session.name)
                if seen is None or seen.termination is not None:
                    break
                if blind:
                    self.keep(session.waited_for(self.session, boot_clock() + self._around.timeouts.reregistration))
                blind, wait = False, await self._act()
            except ReconcilerError:
                blind = True
            except OSError as error:
                log.error("%s: what its executor is to do cannot be written down: %s", self.session.name, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._moved.wait()
        for task in (self._tasks[0], *self._connections):
            task.cancel()

    async def _act(self) -> float:
        """What the time has come for; returns the seconds until it may have come for something else."""
        now = boot_clock()
        due = session.due(self.session, now)
        if due.session.failure is not None and self.session.failure is None:
            log.warning("%s: %s", self.session.name, due.session.failure[1])
        self.keep(due.session)
        if due.signal is not None:
            with contextlib.suppress(ReconcilerError):  # it is signalled again
                await self._around.kill(self.session.name, signals.number(due.signal))
        return LOOK_SECONDS if due.wake_at is None else min(LOOK_SECONDS, max(due.wake_at - now, 0.0))

    async def come(self, seconds: float) -> bool:
        """Whether it is there, or comes within that time: it may not have noticed a new agent yet."""
        if self.session.subscribed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._came.wait()
        return self.connected

    async def _pay(self) -> None:
        """Wait, if it has had more of our attention than it may."""
        now = time.monotonic()
        self._credit = min(_BURST, self._credit + (now - self._paid_at) * _RATE) - 1
        self._paid_at = now
        if self._credit < 0:
            await asyncio.sleep(-self._credit / _RATE)

    # ---- connections

    async def _listen(self) -> None:
        top, beneath = self.session.sandbox
        while True:
            try:
                listener = await asyncio.to_thread(listening.listen, top, beneath)
                break
            except OSError as error:
                self.trouble = f"its executor's socket cannot be made: {error}"
                log.warning("%s: %s", self.session.name, self.trouble)
                await asyncio.sleep(LOOK_SECONDS)
        self.trouble = ""
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                connection, _ = await loop.sock_accept(listener)
                await self._pay()
                if len(self._connections) >= _AT_A_TIME:
                    connection.close()
                    continue
                task = asyncio.create_task(self._hear(connection), name=f"connection of {self.session.name}")
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)

    async def _hear(self, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                known = await self._is_of_the_container(connection)
        except (TimeoutError, OSError):
            known = False
        except asyncio.CancelledError:
            connection.close()
            raise
        if not known:
            log.warning("%s: somebody who is not of the container came to its executor's socket", self.session.name)
            connection.close()
            await asyncio.sleep(_PENALTY)
            return
        reader, writer = await asyncio.open_connection(sock=connection, limit=messages.LONGEST)
        try:
            await self._converse(reader, writer)
        except BadMessage as error:
            log.warning("%s: a message of its executor %s", self.session.name, error)
            writer.write(messages.write("ERROR", message=f"the message {error}"))
            writer.close()
            await asyncio.sleep(_PENALTY)
        except (OSError, TimeoutError):
            pass  # it went away, or never said who it is
        finally:
            self._lost(writer)
            writer.close()

    async def _is_of_the_container(self, connection: socket.socket) -> bool:
        while True:  # an engine says which process it is a little after it has started it
            with contextlib.suppress(ReconcilerError):
                seen = await self._around.see(self.session.name)
                if seen is not None and seen.pid is not None:
                    return listening.belongs(connection, seen.pid)
            await asyncio.sleep(0.05)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(SUBSCRIBE_SECONDS):
            first = await self._next(reader)
        if first is None:
            return
        if not isinstance(first, Subscribe):
            raise BadMessage("comes before SUBSCRIBE")
        self._subscribe(first, writer)
        while (message := await self._next(reader)) is not None and self._writer is writer:
            if isinstance(message, Update):
                self.take(session.updated(self.session, message))
                self._send(messages.acknowledged(message))
            else:
                self._subscribe(message, writer)
            await writer.drain()
            await self._pay()

    async def _next(self, reader: asyncio.StreamReader) -> Subscribe | Update | None:
        try:
            line = await reader.readline()
        except ValueError:
            raise BadMessage(f"is longer than {messages.LONGEST} bytes") from None
        return messages.read(line) if line.endswith(b"\n") else None

    def _subscribe(self, said: Subscribe, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None and self._writer is not writer:
            self._writer.close()
        self._writer = writer
        self._came.set()
        log.info("%s: its executor has subscribed", self.session.name)
        self.take(session.subscribed(self.session, said.tasks, said.updates))
        for update in said.updates:
            self._send(messages.acknowledged(update))
        self._around.notify(self.session.name)

    def _lost(self, writer: asyncio.StreamWriter) -> None:
        if self._writer is not writer:
            return
        self._writer = None
        self._came.clear()
        if not self.session.ending:
            by = boot_clock() + self._around.timeouts.reregistration
            with contextlib.suppress(OSError):  # an agent that recovers waits for it all the same
                self.keep(replace(self.session, reconnect_by=by))
        self._around.notify(self.session.name)
