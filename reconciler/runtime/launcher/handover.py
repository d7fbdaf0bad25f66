"""How a keeper becomes one of other code: same pid, same children, same descriptors.

    agent ─ upgrade(command, exe) ─▶ keeper ─▶ trial: a child, in which the new code reads a copy of the state
                                                 ├─ it fails, or takes too long ─▶ the agent is told, the keeper stays
                                                 └─ it succeeds ─▶ execve ─▶ the new code takes the state over ─▶ {ok}

The state is JSON in a sealed memfd, with descriptors by their numbers; it has a version of its own, and code reads
every version up to its own. What happens during the exec waits: requests in their sockets, ends unreaped, children
blocked. The new image is dumpable until its first lines have run; no secret is ever in a keeper. Standard library only.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from reconciler.runtime.kernel import syscalls
from reconciler.runtime.launcher import channel, static_init

VERSION = 1
TRIAL = "trial"  # the first word after the command; for the exec itself it is `keeper`, as always
_TRIAL_SECONDS = 10
_PACKAGES = ("kernel", "launcher", os.path.join("launcher", "init"), os.path.join("docker", "executor"))


RUNTIME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@functools.cache
def code(runtime: str = RUNTIME) -> str:
    """Tells apart what keepers may run: the interpreter, and all that lies where the keeper's modules do."""
    value, size = zlib.crc32(sys.version.encode()), 0
    for package in _PACKAGES:
        directory = os.path.join(runtime, package)
        for name in sorted(name for name in os.listdir(directory) if name.endswith((".py", static_init.NAME))):
            with open(os.path.join(directory, name), "rb") as file:
                text = file.read()
            value, size = zlib.crc32(text, zlib.crc32(name.encode(), value)), size + len(text)
    return f"{value:08x}-{size:x}"


class Upgrade:
    """One that was asked for: its trial runs. client: who asked, by descriptor; seq: of the request."""

    def __init__(self, client: int, seq: int, command: Sequence[str], exe: int, runtime_dir: str) -> None:
        self.client, self.seq, self.exe = client, seq, exe
        self._command, self._runtime_dir = list(command), runtime_dir
        self.pid = -1
        self._said = -1

    def try_out(self, state: Mapping[str, Any]) -> None:
        """Start the trial. Raises OSError."""
        memfd = _written(state)
        self._said, complaints = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                self._try(memfd, complaints)
        except OSError:
            os.close(self._said)
            raise
        finally:
            os.close(memfd)
            os.close(complaints)

    def _try(self, memfd: int, complaints: int) -> NoReturn:
        try:
            os.dup2(complaints, 2)
            signal.alarm(_TRIAL_SECONDS)  # survives the exec
            syscalls.close_all_but({0, 1, 2, memfd, self.exe})
            self._exec(TRIAL, memfd)
        except BaseException as error:  # noqa: BLE001 - the last frame of a forked process: reported, then gone
            os.write(2, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(1)

    def verdict(self, status: int) -> str | None:
        """Of a trial that ended like that: why not, None for success."""
        with open(self._said, "rb") as file:
            self._said = -1
            os.set_blocking(file.fileno(), False)
            said = (file.read() or b"").decode(errors="replace").strip().splitlines()
        if status == 0:
            return None
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
            return f"its trial took longer than {_TRIAL_SECONDS} s"
        return said[-1] if said else f"its trial ended with status {status}"

    def carry_out(self, state: Mapping[str, Any]) -> NoReturn:
        """Become the new code. Raises OSError, and all is as it was."""
        memfd = _written({**state, "waiting": {"client": self.client, "seq": self.seq}})
        fds = descriptors(state)
        try:
            for fd in fds:
                os.set_inheritable(fd, True)
            self._exec("keeper", memfd)
        except OSError:
            for fd in fds:
                os.set_inheritable(fd, False)
            os.close(memfd)
            raise

    def _exec(self, word: str, memfd: int) -> NoReturn:
        os.set_inheritable(memfd, True)
        os.execve(self.exe, [*self._command, word, self._runtime_dir, str(memfd)], dict(os.environ))

    def close(self) -> None:
        for fd in (self.exe, self._said):
            if fd >= 0:
                os.close(fd)


def _written(state: Mapping[str, Any]) -> int:
    return channel.sealed(json.dumps({"version": VERSION, **state}).encode())


def read(memfd: int) -> dict[str, Any]:
    """The state in it; closes it. Raises ValueError for one that this code does not know."""
    state: dict[str, Any] = json.loads(channel.read_sealed(memfd))
    if not 1 <= state["version"] <= VERSION:
        raise ValueError(f"the keeper hands over state of version {state['version']}, this code knows up to {VERSION}")
    descriptors(state)  # a trial that comes this far has understood it
    return state


def take_descriptors(state: Mapping[str, Any]) -> None:
    """They are ours now, and whatever else the exec let through is closed."""
    fds = descriptors(state)
    for fd in fds:
        os.set_inheritable(fd, False)
    syscalls.close_all_but({0, 1, 2} | fds)


def descriptors(state: Mapping[str, Any]) -> set[int]:
    found = {state["listener"], state["lock"], *(client["fd"] for client in state["clients"])}
    for ward in state["wards"]:
        found |= {ward["pidfd"], ward["go"], ward["error"], *ward["keep"].values()}
        if (pump := ward["pump"]) is not None:
            found |= {*pump["ends"].values(), pump["console"], pump["leash"]}
    return found - {-1}
