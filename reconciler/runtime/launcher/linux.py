"""The linux launcher: namespaces, and a cgroup per container in every hierarchy used.

The agent makes and removes the cgroups, in threads, and passes open descriptors; the keeper clones, places
and reaps. Where there is a cgroup2 mount the child is born in its cgroup (CLONE_INTO_CGROUP); in v1
hierarchies it goes there by itself, before it is released. Killing goes through the cgroup, so nothing that forks
away escapes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from reconciler.runtime.kernel import proc
from reconciler.runtime.kernel.syscalls import NAMESPACES
from reconciler.runtime.launcher.cgroup_tree import CgroupTree
from reconciler.runtime.launcher.child import PLACE
from reconciler.runtime.launcher.connection import KeeperError
from reconciler.runtime.launcher.launcher import Fork, Forked, KeeperLink, Known, closing_fds


class LinuxLauncher:
    name = "linux"
    gives = frozenset(NAMESPACES)
    limits = True

    def __init__(self, runtime_dir: Path, tree: CgroupTree) -> None:
        self.tree = tree
        self.link = KeeperLink(runtime_dir, tree.roots())

    async def recover(self, expected: Mapping[str, Known], reaped: Callable[[str], int]) -> set[str]:
        await self.link.get()
        for name, known in expected.items():
            if name in self.link.known:
                continue
            fds = await asyncio.to_thread(self._end_fds, name)
            with contextlib.suppress(KeeperError), closing_fds({**fds, "reaped": reaped(name)}) as adopting:
                await self.link.adopt(known, adopting)
        return (await asyncio.to_thread(self.tree.list) | set(self.link.known)) - set(expected)

    def create(self, name: str) -> Mapping[str, str]:
        return self.tree.create(name)

    def places(self, name: str, *, ends: bool = True) -> dict[str, int]:
        """By which the child is placed, and what it leaves is ended later."""
        fds: dict[str, int] = {}
        try:
            for hierarchy, directory in self.tree.process_dirs(name).items():
                if self.tree.version(hierarchy) == 2:
                    fds["into"] = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                else:
                    tasks = os.path.join(directory, "tasks")
                    fds[PLACE + hierarchy] = os.open(tasks, os.O_WRONLY | os.O_CLOEXEC)
            if ends:
                fds.update(self._end_fds(name))
        except BaseException:
            for fd in fds.values():
                os.close(fd)
            raise
        return fds

    def strays(self, name: str, pids: Collection[int]) -> int:
        return len({pid for away in self.tree.strays(name, pids).values() for pid in away})

    def gather(self, name: str, pids: Collection[int]) -> Mapping[str, str]:
        return self.tree.gather(name, pids)

    def _end_fds(self, name: str) -> dict[str, int]:
        directory = self.tree.tracking_dir(name)
        with contextlib.suppress(FileNotFoundError):
            return {"kill": os.open(os.path.join(directory, "cgroup.kill"), os.O_WRONLY | os.O_CLOEXEC)}
        with contextlib.suppress(FileNotFoundError):
            return {"procs": os.open(os.path.join(directory, "cgroup.procs"), os.O_RDONLY | os.O_CLOEXEC)}
        return {}

    async def fork(self, fork: Fork) -> Forked:
        return await self.link.fork(fork)

    async def release(self, name: str, run: str) -> None:
        await self.link.release(name, run)

    async def kill(self, name: str, pid: int, start: int) -> None:
        await asyncio.to_thread(self._kill, name, pid, start)

    def _kill(self, name: str, pid: int, start: int) -> None:
        """Its first process by itself too: whoever moved it out of its cgroup keeps nothing alive."""
        with contextlib.ExitStack() as held:
            family = []
            if pid and proc.is_running(pid, start):
                for each in proc.families([pid]):
                    with contextlib.suppress(ProcessLookupError):
                        family.append(proc.pidfd(each))
                        held.callback(os.close, family[-1])
            self.tree.kill(name)
            for pidfd in family:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    async def destroy(self, name: str, seconds: float) -> None:
        await asyncio.to_thread(self.tree.remove, name, seconds)

    @property
    def keeper(self) -> int:
        return self.link.pid

    def watch_keeper(self, lost: Callable[[], None]) -> None:
        self.link.on_lost = lost

    @property
    def note(self) -> str | None:
        return self.link.note

    async def close(self) -> None:
        self.link.close()
