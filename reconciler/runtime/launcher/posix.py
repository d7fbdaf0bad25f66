"""The posix launcher: a session per container, no namespaces, no cgroups, no root, any Linux.

Each init is a subreaper, so that what its payload double-forks away stays below it and ends with it. When
an init itself is killed with SIGKILL, or there is none (`init: false`), such descendants are ended on best
effort: those still below the first process, and its process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher.child import END_NOW
from reconciler.runtime.launcher.connection import KeeperError
from reconciler.runtime.launcher.launcher import Fork, Forked, KeeperLink, Known, closing_fds


class PosixLauncher:
    name = "posix"
    gives: frozenset[str] = frozenset()
    limits = False

    def __init__(self, runtime_dir: Path) -> None:
        self.link = KeeperLink(runtime_dir, ())

    async def recover(self, expected: Mapping[str, Known], reaped: Callable[[str], int]) -> set[str]:
        await self.link.get()
        for name, known in expected.items():
            if name not in self.link.known:
                with contextlib.suppress(KeeperError), closing_fds({"reaped": reaped(name)}) as fds:
                    await self.link.adopt(known, fds)
        return set(self.link.known) - set(expected)

    def create(self, name: str) -> Mapping[str, str]:
        return {}

    def places(self, name: str, *, ends: bool = True) -> dict[str, int]:
        return {}

    def strays(self, name: str, pids: Collection[int]) -> int:
        return 0

    def gather(self, name: str, pids: Collection[int]) -> Mapping[str, str]:
        return {}

    async def fork(self, fork: Fork) -> Forked:
        return await self.link.fork(fork)

    async def release(self, name: str, run: str) -> None:
        await self.link.release(name, run)

    async def kill(self, name: str, pid: int, start: int) -> None:
        if not pid and name in self.link.known:  # without a record of ours the keeper still knows who it is
            pid, start = self.link.known[name]["pid"], self.link.known[name]["start"]
        await asyncio.to_thread(_end_tree, pid, start)

    async def destroy(self, name: str, seconds: float) -> None:
        return None

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


def _end_tree(pid: int, start: int) -> None:
    """An init ends its own tree when told; whoever is no init, and what the init can't end, is killed here."""
    if not proc.is_running(pid, start):
        return
    below = proc.descendants(pid)
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):
        pidfd = proc.pidfd(pid)
        try:
            is_init = _command(pid).startswith(b"init ")
            signal.pidfd_send_signal(pidfd, END_NOW if is_init else signal.SIGKILL)
        finally:
            os.close(pidfd)
    for other in below:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(other, signal.SIGKILL)


def _command(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read(64)
