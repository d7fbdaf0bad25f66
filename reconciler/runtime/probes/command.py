"""A check by a command: a further process in all of the container's namespaces and in its cgroup, as `exec` makes it.

    agent ─▶ keeper ─fork─▶ init of the check ─▶ the command ─▶ whatever it starts

The init is a subreaper: when the command has ended, or its time is up (END_NOW), it kills all that is below it, so that
nothing of a check outlives it, on either launcher; the keeper does the same when the agent dies meanwhile. What
the command printed is read as it comes, so that it never blocks on that, and the end of it kept for the message.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import Finding
from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher import inside
from reconciler.runtime.launcher.child import END_NOW
from reconciler.runtime.launcher.connection import KeeperError
from reconciler.runtime.launcher.launcher import Fork, Forked, Launcher, open_files
from reconciler.runtime.mesos.checkpoint import Run
from reconciler.runtime.mesos.container import within
from reconciler.runtime.mesos.termination import signal_name
from reconciler.states import Reason

KEPT = 512
"""Bytes of output, the last ones, that are kept of a check."""
_END_SECONDS = 2.0
_CHUNK = 64 * 1024


class CommandCheck:
    """One run of one command. `container`: who it runs in, `pidfd`: of its first process."""

    def __init__(self, launcher: Launcher, container: Run, pidfd: int, argv: Sequence[str]) -> None:
        self._launcher = launcher
        self._container = container
        self._argv = list(argv)
        self._token = secrets.token_hex(8)
        self._owned = contextlib.ExitStack()
        self._parent = self._own(os.dup(pidfd))
        self._output = bytearray()

    async def run(self, seconds: float | None) -> Finding:
        """seconds: None for no limit. Raises Retryable or OSError when it could not be made."""
        with self._owned:
            output, into = self._pipe()
            status, told = self._pipe()
            forked = await self._fork(into, told)
            self._own(forked.pidfd)
            ended = self._watch(forked.pidfd)
            with self._reading(output):
                try:
                    async with asyncio.timeout(seconds):
                        await self._launcher.release(self._container.name, self._token)
                        await ended.wait()
                except TimeoutError:
                    await self._end(forked, ended)
                    return Finding(False, f"timed out after {seconds:g} s and was ended{self._said()}")
                except KeeperError as error:
                    await self._end(forked, ended)
                    return Finding(False, f"cannot be run: {error.sentence()}")
                except BaseException:
                    _signal(forked.pidfd, END_NOW)
                    raise
                self._read(output)
            return self._judged(status)

    # -- starting

    async def _fork(self, into: int, told: int) -> Forked:
        """The descriptors it is given are closed here afterwards, so that their other ends see its end."""
        run = self._container
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        fds = {"stdin": null, "stdout": into, "stderr": into, "exit": told}
        try:
            more = await asyncio.to_thread(self._given)
            fork = Fork(
                name=run.name,
                run=self._token,
                plan=self._plan(),
                clone=(),
                fds={**fds, **{role: self._own(fd) for role, fd in more.items()}},
                parent=self._parent,
                enter_pid="pid" in self._differ(),
                transient=True,
            )
            forking = asyncio.ensure_future(self._launcher.fork(fork))
            try:
                return await asyncio.shield(forking)
            except asyncio.CancelledError:
                forking.add_done_callback(_abandon)
                await asyncio.wait({forking})  # it needs the descriptors
                raise
        finally:
            os.close(null)
            os.close(into)
            os.close(told)

    def _given(self) -> dict[str, int]:
        """Its place in the container's cgroups, and what the steps of its plan read."""
        places = self._launcher.places(self._container.name, ends=False)
        try:
            return {**places, **open_files(self._container.plan)}
        except BaseException:
            for fd in places.values():
                os.close(fd)
            raise

    def _plan(self) -> Mapping[str, Any]:
        plan = inside.plan(self._container.plan, self._differ(), self._argv, env={}, init=True)
        return {**plan, "name": f"{self._container.name} check"}

    def _differ(self) -> set[str]:
        """The namespaces of the container that are not the keeper's, which are ours."""
        ours = proc.namespaces("self")
        theirs = proc.namespaces(self._container.pid or "self")
        return {name for name, inode in theirs.items() if ours.get(name) != inode}

    # -- while it runs

    def _watch(self, pidfd: int) -> asyncio.Event:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def over() -> None:
            loop.remove_reader(pidfd)
            ended.set()

        loop.add_reader(pidfd, over)
        self._owned.callback(loop.remove_reader, pidfd)
        return ended

    @contextlib.contextmanager
    def _reading(self, fd: int) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)

        def read() -> None:
            if not self._read(fd):
                loop.remove_reader(fd)

        loop.add_reader(fd, read)
        try:
            yield
        finally:
            loop.remove_reader(fd)

    def _read(self, fd: int) -> bool:
        """Whether there may be more later."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(fd, _CHUNK):
                self._output += data
                del self._output[:-KEPT]
            return False
        return True

    # -- its end

    async def _end(self, forked: Forked, ended: asyncio.Event) -> None:
        """It and everything that it started; by force when it does not come about."""
        for number in (END_NOW, signal.SIGKILL):
            _signal(forked.pidfd, number)
            if await within(ended, _END_SECONDS):
                return

    def _judged(self, status: int) -> Finding:
        line = os.read(status, 64)
        if not line.endswith(b"\n"):
            raise Retryable(f"{self._container.name}: the check was ended from outside", Reason.STATE_UNKNOWN)
        raw = int(line.split()[0])
        if os.WIFSIGNALED(raw):
            return Finding(False, f"killed by {signal_name(os.WTERMSIG(raw))}{self._said()}")
        code = os.waitstatus_to_exitcode(raw)
        return Finding(code == 0, f"exited with code {code}{self._said()}")

    def _said(self) -> str:
        """Its output as the tail of a sentence."""
        words = " ".join(self._output.decode(errors="replace").split())
        return f": {words}" if words else ""

    # -- descriptors

    def _own(self, fd: int) -> int:
        self._owned.callback(os.close, fd)
        return fd

    def _pipe(self) -> tuple[int, int]:
        """(ours, to be given away)."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        return self._own(ours), theirs


def _abandon(forking: asyncio.Future[Forked]) -> None:
    """Nobody waits for it any more: it was never released, and is not to be."""
    if not forking.cancelled() and forking.exception() is None:
        _signal(forking.result().pidfd, signal.SIGKILL)
        os.close(forking.result().pidfd)


def _signal(pidfd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, number)
