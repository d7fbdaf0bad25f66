"""The executor of one container: forked by the keeper, or in a container of its own; it outlives the agent.

    held ─▶ inspect ─▶ wait for the end ─▶ inspect ─▶ written down ─▶ gone
               ▲            │ the engine went away       a deadline ─▶ SIGKILL, again while it runs
               └────────────┘ later each time            RUNTIME/docker/<id>.sock ─▶ {"killAt"} ─▶ written down

It does what must be done although no agent runs: writes down how the container ended, before somebody removes it from
the engine, and kills it when the grace of an ending that an agent began is over. It starts nothing and removes
nothing, so one that dies costs nothing but that, and another takes up where it was. Of two for one container the
second goes at once (the lock of the mark). Standard library only, one thread: the keeper imports this.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from typing import Any

from reconciler.runtime.docker.executor import asking, record
from reconciler.runtime.docker.executor.record import Json
from reconciler.runtime.kernel import locks
from reconciler.runtime.launcher import channel

SOCKETS = "docker"  # below the runtime directory

_SECONDS = 30.0  # for an answer of the engine
_TOLD_SECONDS = 2.0  # for what a client says
_PAUSES = (0.2, 10.0)  # seconds before an engine that was lost is asked again: at first, at most
_KILL_AGAIN = 5.0
_NOT_FOUND = 404
_CHUNK = 1 << 16


def socket_name(id: str) -> str:
    return f"{id[:12]}.sock"


class Executor:
    """order: {"name", "id", "url", "mark", "runtime"}; the container's id, and paths."""

    def __init__(self, order: Json) -> None:
        self._url, self._id, self._mark = order["url"], order["id"], order["mark"]
        self._directory = os.path.join(order["runtime"], SOCKETS)
        self._fd = -1
        self._record: Json = {"id": self._id, "killAt": None, "container": None}
        self._listener: socket.socket | None = None
        self._pause = _PAUSES[0]
        self._kill_again = 0.0

    def serve(self) -> None:
        """Until the container has ended and that is written down, or there is nothing to look after. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):  # it was destroyed before we came
            self._fd = os.open(self._mark, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        if self._fd < 0 or not locks.take(self._fd):
            return
        earlier = record.read(self._fd)
        if earlier is not None and earlier["id"] == self._id:
            self._record = earlier
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._listener = channel.listen(self._directory, socket_name(self._id))
        self._listener.setblocking(False)
        try:
            while not self._over():
                continue
        finally:
            self._listener.close()
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._directory, socket_name(self._id)))
            with contextlib.suppress(OSError):
                os.rmdir(self._directory)

    def _over(self) -> bool:
        """One wait for its end; False when it is to be asked for again."""
        try:
            found = self._inspect()
            if found is not None and found["State"].get("Running"):
                self._pause = _PAUSES[0]
                code = self._wait()
                found = self._inspect() or _removed(found, code)
            if found is None:
                return True  # how it ended is known to nobody
            if found["State"].get("Running"):
                return False
        except (OSError, KeyError, TypeError):
            self._attend(None, time.monotonic() + self._pause)
            self._pause = min(self._pause * 2, _PAUSES[1])
            return False
        self._write(container=record.kept(found))
        return True

    def _inspect(self) -> Json | None:
        """None when the engine has it no more. Raises OSError."""
        status, said = asking.ask(self._url, "GET", f"/containers/{self._id}/json", _SECONDS)
        if status == _NOT_FOUND:
            return None
        if status != 200:
            raise OSError(f"{status} {said}")
        return dict(said)

    def _wait(self) -> int | None:
        """Its exit code; None when the engine had it no more. Raises OSError when that goes away."""
        path = f"/containers/{self._id}/wait?condition=not-running"
        with asking.begin(self._url, "POST", path, _SECONDS) as sock:
            sock.setblocking(False)
            received = b""
            while piece := self._attend(sock, None):
                received += piece
        status, said = asking.understood(received)
        if status == _NOT_FOUND:
            return None
        return int(said["StatusCode"])

    def _attend(self, sock: socket.socket | None, until: float | None) -> bytes:
        """Do what is asked of us and what is due, until there is something on the socket, which is returned, or until
        that moment (monotonic)."""
        assert self._listener is not None
        poll = select.poll()
        for each in (self._listener, *([sock] if sock is not None else [])):
            poll.register(each, select.POLLIN)
        while until is None or time.monotonic() < until:
            due = [moment - time.monotonic() for moment in (until, self._kill_due()) if moment is not None]
            ready = {fd for fd, _ in poll.poll(max(min(due), 0) * 1000 + 1 if due else None)}
            if self._listener.fileno() in ready:
                self._hear(self._listener)
            if (kill := self._kill_due()) is not None and time.monotonic() >= kill:
                self._kill()
            if sock is not None and sock.fileno() in ready:
                return sock.recv(_CHUNK)
        return b""

    # ---- the ending that an agent began

    def _hear(self, listener: socket.socket) -> None:
        """One request: a deadline can be brought forward, never put off."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(_TOLD_SECONDS)
                received = channel.receive(sock)
                if received is None:
                    return
                message, fds = received
                for fd in fds:
                    os.close(fd)
                earlier, asked = self._record["killAt"], float(message["killAt"])
                self._write(killAt=asked if earlier is None else min(asked, earlier))
                channel.send(sock, {"ok": True})

    def _kill_due(self) -> float | None:
        """When it is to be killed, by the monotonic clock."""
        if self._record["killAt"] is None:
            return None
        left: float = self._record["killAt"] - time.clock_gettime(time.CLOCK_BOOTTIME)
        return max(time.monotonic() + left, self._kill_again)

    def _kill(self) -> None:
        self._kill_again = time.monotonic() + _KILL_AGAIN
        with contextlib.suppress(OSError):  # not running: the wait says so; away: it is tried again
            asking.ask(self._url, "POST", f"/containers/{self._id}/kill?signal=KILL", _SECONDS)

    def _write(self, **changed: Any) -> None:
        self._record |= changed
        record.write(self._fd, self._record)


def _removed(before: Json, code: int | None) -> Json | None:
    """What an engine would have said of one that it has no more: all there is, is what the wait was answered."""
    if code is None:
        return None
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ended = {"Running": False, "Status": "exited", "ExitCode": code, "FinishedAt": now}
    return {**before, "State": {**before["State"], **ended}}


def main(argument: str) -> int:
    Executor(json.loads(argument)).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
