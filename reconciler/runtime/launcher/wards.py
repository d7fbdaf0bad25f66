"""The processes a keeper looks after: one ward per container (and per transient `exec`).

A ward owns its descriptors: the pidfd, the write end of the "go" pipe, the read end of the error pipe, the
file for the reaped status, and the means to kill whatever its container leaves behind.
Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher import pump_holding
from reconciler.runtime.launcher.child import END_NOW

if TYPE_CHECKING:
    from reconciler.runtime.launcher.keeper import Client

_ROUNDS = 50  # of killing what a fork storm leaves in a v1 cgroup


class Ward:
    """A forked or adopted process. run: tells launches of one name apart; transient: ends with its client."""

    def __init__(self, name: str, run: str, pid: int, start: int, pidfd: int) -> None:
        self.name = name
        self.run = run
        self.pid = pid
        self.start = start
        self.pidfd = pidfd
        self.go_fd = -1
        self.error_fd = -1
        self.keep: dict[str, int] = {}
        self.pump: pump_holding.Held | None = None
        self.client: Client | None = None
        self.transient = False
        self.has_init = False
        self.released = False
        self.is_adopted = False
        self._release_seq: int | None = None

    @classmethod
    def adopted(cls, message: dict[str, Any], fds: list[int]) -> Ward:
        """A container whose keeper died. Raises ProcessLookupError when that very process is gone."""
        pid, start = message["pid"], message["start"]
        pidfd = proc.pidfd(pid)
        if not proc.is_running(pid, start):
            os.close(pidfd)
            raise ProcessLookupError(3, "the process ended before it could be adopted", f"/proc/{pid}")
        ward = cls(message["name"], message["run"], pid, start, pidfd)
        roles: dict[str, int] = dict(zip(message["roles"], fds, strict=True))
        ward.pump = pump_holding.adopt(roles)
        ward.keep = {name: fd for name, fd in roles.items() if not name.startswith(pump_holding.PREFIX)}
        fds.clear()
        ward.released = ward.is_adopted = True
        return ward

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "run": self.run, "pid": self.pid, "start": self.start, "released": self.released}

    def handed_over(self) -> dict[str, Any]:
        """For `taken_over`, in another image of this process; descriptors by number, -1 for none."""
        return {
            **self.as_json(),
            "pidfd": self.pidfd,
            "go": self.go_fd,
            "error": self.error_fd,
            "keep": self.keep,
            "pump": None if self.pump is None else self.pump.handed_over(),
            "client": -1 if self.client is None else self.client.sock.fileno(),
            "transient": self.transient,
            "init": self.has_init,
            "adopted": self.is_adopted,
            "seq": self._release_seq,
        }

    @classmethod
    def taken_over(cls, state: Mapping[str, Any], clients: Mapping[int, Client]) -> Ward:
        ward = cls(state["name"], state["run"], state["pid"], state["start"], state["pidfd"])
        ward.go_fd, ward.error_fd, ward.keep = state["go"], state["error"], state["keep"]
        ward.pump = None if state["pump"] is None else pump_holding.Held.taken_over(state["pump"])
        ward.client = clients.get(state["client"])
        ward.transient, ward.released, ward.is_adopted = state["transient"], state["released"], state["adopted"]
        ward.has_init = state.get("init", False)
        ward._release_seq = state["seq"]
        return ward

    def release(self, seq: int | None) -> None:
        """Let the child go on; the answer to `seq` is due when its error pipe closes."""
        os.write(self.go_fd, b"g")  # EPIPE when it has died: then it was never released
        self._release_seq = seq
        self.released = True
        os.close(self.go_fd)
        self.go_fd = -1

    def started(self) -> tuple[int | None, dict[str, Any] | None]:
        """(seq of the release, why the exec did not happen or None), once the error pipe is readable."""
        record = b""
        with contextlib.suppress(BlockingIOError):
            record = os.read(self.error_fd, 65536)
        os.close(self.error_fd)
        self.error_fd = -1
        return self._release_seq, json.loads(record) if record else None

    def kill(self) -> None:
        """With all it started. A transient one has no cgroup: its init sees to that, else its group is killed."""
        with contextlib.suppress(ProcessLookupError):
            if self.transient and self.has_init:
                signal.pidfd_send_signal(self.pidfd, END_NOW)
                signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)
                return
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        if self.transient:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def kill_the_rest(self) -> None:
        """The first process is dead: end what its container still runs (its own cgroup and those below it)."""
        if (fd := self.keep.get("kill", -1)) >= 0:
            with contextlib.suppress(OSError):
                os.write(fd, b"1")
        if (fd := self.keep.get("procs", -1)) >= 0:
            for _ in range(_ROUNDS):
                with contextlib.suppress(OSError):
                    pids = os.pread(fd, 1 << 20, 0).split()
                    if not pids:
                        break
                    for pid in pids:
                        os.kill(int(pid), signal.SIGKILL)

    def record(self, status: int | None) -> None:
        """Write the raw wait status down; None: nobody could have it."""
        if status is not None and (fd := self.keep.get("reaped", -1)) >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(fd, b"%d\n" % status, 0)

    def close(self) -> None:
        for fd in (self.pidfd, self.go_fd, self.error_fd, *self.keep.values()):
            if fd >= 0:
                os.close(fd)
        if self.pump is not None:
            self.pump.close()
        self.keep.clear()
        self.pidfd = self.go_fd = self.error_fd = -1


class Wards:
    """All wards, found by what an event knows of them."""

    def __init__(self) -> None:
        self._by_pid: dict[int, Ward] = {}

    @property
    def all(self) -> list[Ward]:
        return list(self._by_pid.values())

    @property
    def pids(self) -> set[int]:
        return set(self._by_pid)

    def add(self, ward: Ward) -> None:
        self._by_pid[ward.pid] = ward

    def remove(self, ward: Ward) -> None:
        del self._by_pid[ward.pid]

    def by_pid(self, pid: int) -> Ward | None:
        return self._by_pid.get(pid)

    def by_error_fd(self, fd: int) -> Ward | None:
        return next((ward for ward in self._by_pid.values() if ward.error_fd == fd), None)

    def by_pidfd(self, fd: int) -> Ward | None:
        return next((ward for ward in self._by_pid.values() if ward.pidfd == fd), None)

    def by_pump_fd(self, fd: int) -> Ward | None:
        return next((ward for ward in self._by_pid.values() if ward.pump is not None and fd in ward.pump.fds()), None)

    def of_run(self, name: str, run: str) -> Ward:
        for ward in self._by_pid.values():
            if (ward.name, ward.run) == (name, run) and not ward.released:
                return ward
        raise ProcessLookupError(3, "no blocked child of that run: it was killed or has ended", name)

    def within(self, ended: Ward) -> list[Ward]:
        """What ends with it: nested containers, and what was started inside by `exec`. Nothing ends with a guest."""
        if ended.transient:
            return []
        inside = ended.name + "."
        return [
            ward
            for ward in self._by_pid.values()
            if ward.name.startswith(inside) or (ward.transient and ward.name == ended.name)
        ]
