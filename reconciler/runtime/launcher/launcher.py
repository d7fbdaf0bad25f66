"""The Launcher contract: forking and destroying containers, and nothing else.

    create ─▶ fork (child blocked) ─▶ release ─▶ exec'ed │ KeeperError: why not
                                         ⋮
                       kill ─▶ destroy (nothing of it is left)

Which namespaces and limits it can give is `gives`; what a spec names beyond that makes the
container Blocked, what it leaves open falls back to shared. After Mesos's `Launcher`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from reconciler.runtime.launcher import attaching, channel, connection, handover
from reconciler.runtime.launcher.connection import Connection

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True, slots=True)
class Fork:
    """What to fork. run: id of this launch; plan: for the child (argv, env, init, steps); clone: namespaces to
    make; enter: pidfd of the parent's first process when the child goes into its pid namespace; transient: a further
    process of a container that runs already: in its cgroups, and ended with it, or with us."""

    name: str
    run: str
    plan: Mapping[str, Any]
    clone: tuple[str, ...]
    fds: Mapping[str, int]
    parent: int | None = None
    enter_pid: bool = False
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Forked:
    """A blocked child: host pid, start time in clock ticks since boot, and a pidfd that the caller owns."""

    pid: int
    start: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class Known:
    """A container that was recorded as running: who its first process was."""

    name: str
    run: str
    pid: int
    start: int


class Launcher(Protocol):
    name: str
    gives: frozenset[str]
    limits: bool

    async def recover(self, expected: Mapping[str, Known], reaped: Callable[[str], int]) -> set[str]:
        """Have the keeper look after what still runs; returns the names of orphans: ours, but not expected.
        reaped: opens the file for a container's reaped status."""
        ...

    def create(self, name: str) -> Mapping[str, str]:
        """Whatever must exist before the fork; hierarchy → cgroup directory. Blocks."""
        ...

    def places(self, name: str, *, ends: bool = True) -> dict[str, int]:
        """Of what was created, the descriptors that the fork needs, by role: the caller's to close. Blocks.
        ends: those too by which all of the container is killed when the process ends."""
        ...

    def strays(self, name: str, pids: Collection[int]) -> int:
        """How many of the container's processes somebody moved out of what `create` made. Blocks."""
        ...

    def gather(self, name: str, pids: Collection[int]) -> Mapping[str, str]:
        """Move them back; hierarchy → its own cgroup, as `create` has it. Blocks. Raises CgroupLost where there is
        nothing left to move them to."""
        ...

    async def fork(self, fork: Fork) -> Forked: ...

    async def release(self, name: str, run: str) -> None:
        """Returns once the payload was exec'ed. Raises KeeperError with the stage that failed."""
        ...

    async def kill(self, name: str, pid: int, start: int) -> None:
        """SIGKILL everything in the container, nested ones included."""
        ...

    async def destroy(self, name: str, seconds: float) -> None:
        """Everything is dead: remove what `create` made. Idempotent. Raises OSError that says what is stuck."""
        ...

    @property
    def keeper(self) -> int:
        """Its pid; 0 while there is none that we know of."""
        ...

    def watch_keeper(self, lost: Callable[[], None]) -> None:
        """Call `lost` when the keeper has gone."""
        ...

    @property
    def note(self) -> str | None:
        """What is amiss with the keeper although it serves us."""
        ...

    async def close(self) -> None: ...


class KeeperLink:
    """The connection to the keeper of whoever has processes forked: opened when first needed, again when lost.
    cgroup_roots: that the keeper removes when it goes; None: what it was told of them stands."""

    def __init__(self, runtime_dir: Path, cgroup_roots: tuple[str, ...] | None) -> None:
        self.runtime_dir = runtime_dir
        self.cgroup_roots = cgroup_roots
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self.on_lost: Callable[[], None] = lambda: None
        self.known: dict[str, channel.Message] = {}
        self.pid = 0  # of the keeper
        self.note: str | None = None  # what is amiss with the keeper itself

    async def get(self) -> Connection:
        async with self._opening:
            if self._connection is None or not self._connection.open:
                self._connection = await self._open()
            return self._connection

    async def _open(self) -> Connection:
        for left in itertools.count(_ATTEMPTS - 1, -1):
            sock = await asyncio.to_thread(connection.connect, self.runtime_dir)
            opened = Connection(sock, self._lost)
            try:
                answer = await self._greet(opened)
                if await self._upgrade(opened, answer):
                    answer = await self._greet(opened)
            except ConnectionError:  # it was just about to go; the next one is ours
                opened.close()
                if left == 0:
                    raise
                continue
            except OSError:
                opened.close()
                raise
            self.pid = answer["pid"]
            self.known = {container["name"]: container for container in answer["containers"]}
            return opened
        raise AssertionError("a count has no end")

    async def _greet(self, opened: Connection) -> channel.Message:
        """In the newest version that both speak. Raises OSError when there is none."""
        roots: dict[str, Any] = {} if self.cgroup_roots is None else {"roots": list(self.cgroup_roots)}
        for version in connection.SPOKEN:
            try:
                return (await opened.call("hello", role="agent", version=version, **roots))[0]
            except connection.KeeperError as error:
                refused = error
        raise connection.strange(refused)

    async def _upgrade(self, opened: Connection, answer: channel.Message) -> bool:
        """Have a keeper of other code become one of ours. One that can't, or won't, is used as it is."""
        self.note = None
        if answer.get("code") == await asyncio.to_thread(handover.code):
            return False
        try:
            if answer["version"] < 3:
                raise OSError("it is too old to know how")
            with connection.upgrading() as (fds, command):
                await opened.call("upgrade", fds, **command)
        except ConnectionError:
            raise
        except OSError as error:
            why = error.what if isinstance(error, connection.KeeperError) else str(error)
            self.note = (
                f"the keeper, pid {answer['pid']}, still runs other code than this agent and could not be upgraded: "
                f"{why}; it serves on, and is tried again by the next agent"
            )
            log.warning("%s", self.note)
            return False
        log.info("the keeper, pid %d, runs our code now; containers did not notice", answer["pid"])
        return True

    def _lost(self, lost: Connection) -> None:
        """One that goes while it is being opened is told to whoever opens it, and is nobody else's loss."""
        if self._connection is lost:
            self._connection = None
            self.on_lost()

    async def fork(self, fork: Fork) -> Forked:
        link, fds = await self.get(), fork.fds
        fields: dict[str, Any] = {"name": fork.name, "run": fork.run, "plan": dict(fork.plan), "clone": fork.clone}
        if fork.parent is not None:
            fds = {**fds, "parent": fork.parent}
            if fork.enter_pid:
                fields["enter_pid"] = "parent"
        if fork.transient:
            fields["transient"] = True
        answer, given = await link.call("fork", fds, **fields)
        return Forked(pid=answer["pid"], start=answer["start"], pidfd=given[0])

    async def release(self, name: str, run: str) -> None:
        await (await self.get()).call("release", name=name, run=run)

    async def adopt(self, known: Known, fds: Mapping[str, int]) -> None:
        """Raises KeeperError (ESRCH) when it has ended meanwhile."""
        link = await self.get()
        pump = await asyncio.to_thread(attaching.borrow, self.runtime_dir / "containers" / known.name)
        with closing_fds(pump):
            await link.call("adopt", {**fds, **pump}, name=known.name, run=known.run, pid=known.pid, start=known.start)
        self.known[known.name] = {"name": known.name, "pid": known.pid, "start": known.start}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def open_files(plan: Mapping[str, Any]) -> dict[str, int]:
    """What the steps of a launch plan read, by role: the caller's to close."""
    fds: dict[str, int] = {}
    try:
        for role, path in plan.get("files", {}).items():
            fds[role] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except BaseException:
        for fd in fds.values():
            os.close(fd)
        raise
    return fds


def memory_files(contents: Mapping[str, bytes]) -> dict[str, int]:
    """What no path leads to and nobody can change any more, by role: the caller's to close."""
    fds: dict[str, int] = {}
    try:
        for role, data in contents.items():
            fds[role] = os.memfd_create(role, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            with open(fds[role], "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(fds[role], fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        for fd in fds.values():
            os.close(fd)
        raise
    return fds


@contextlib.contextmanager
def closing_fds(fds: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
    """The descriptors are ours until they have been sent, whatever happens."""
    try:
        yield fds
    finally:
        for fd in fds.values():
            os.close(fd)
