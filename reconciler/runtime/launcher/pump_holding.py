"""What the keeper holds of a container whose streams go through a pump: the same descriptors, and the pump's leash.

    fork ─▶ (tty) the child sends its terminal ─▶ pump started ─▶ leash at end of file: it died ─▶ started again
    adopt: another keeper forked the pump; it gave its descriptors away, and the connection is the leash

Invariants: as long as keeper or pump lives, no end of the container's streams is closed. The keeper moves no
byte itself. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.runtime.launcher import channel, offspring, pump, terminal

PREFIX = "pump:"  # of the roles under which an adopting agent passes on what a running pump gave it
LEASH = PREFIX + "leash"

_SHORT_LIFE = 1.0  # seconds; a pump that lived for less is started again after
_PAUSE = 0.5

Watch = Callable[[int, bool], None]


class Held:
    """ends: as `pump.Pump` has them. console: where the child's terminal is to come from."""

    def __init__(self, ends: dict[str, int]) -> None:
        self.ends = ends
        self.console: socket.socket | None = None
        self.leash: socket.socket | None = None
        self._begun = 0.0
        self._watch: Watch | None = None

    def fds(self) -> set[int]:
        """What the keeper listens to for it."""
        return {sock.fileno() for sock in (self.console, self.leash) if sock is not None}

    def begin(self, name: str, directory: str, container: int, title: tuple[int, int], watch: Watch) -> None:
        """Remember what a pump needs, and start it if everything is there. container: a pidfd. watch: (un)register."""
        self.go_on(name, directory, container, title, watch)
        if self.leash is None and self.console is None:
            self._start()

    def go_on(self, name: str, directory: str, container: int, title: tuple[int, int], watch: Watch) -> None:
        """The same for one that has begun already."""
        self._name, self._directory, self._container = name, directory, container
        self._title, self._watch = title, watch
        for sock in (self.leash, self.console):
            if sock is not None:
                watch(sock.fileno(), True)

    def handed_over(self) -> dict[str, Any]:
        """For `taken_over`, in another image of this process; descriptors by number, -1 for none."""
        console, leash = (-1 if sock is None else sock.fileno() for sock in (self.console, self.leash))
        return {"ends": self.ends, "console": console, "leash": leash}

    @classmethod
    def taken_over(cls, state: Mapping[str, Any]) -> Held:
        held = cls(state["ends"])
        held.console, held.leash = (_socket(state[each]) for each in ("console", "leash"))
        return held

    def hear(self, fd: int) -> None:
        if self.console is not None and fd == self.console.fileno():
            self._take_terminal(self.console)
        elif self.leash is not None and fd == self.leash.fileno():
            self._hear_leash(self.leash)

    def _take_terminal(self, console: socket.socket) -> None:
        master = None
        with contextlib.suppress(OSError):
            master = terminal.received(console)
        self._let_go(console)
        self.console = None
        if master is not None:
            self.ends["terminal"] = master
            self._start()

    def _hear_leash(self, leash: socket.socket) -> None:
        try:
            said = leash.recv(pump.PACKET)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if said == pump.END and "stdin" in self.ends:
            os.close(self.ends.pop("stdin"))
        if not said:
            self._let_go(leash)
            self.leash = None
            if not _ended(self._container):
                self._start()

    def _start(self) -> None:
        now = time.monotonic()
        pause = _PAUSE if now - self._begun < _SHORT_LIFE else 0.0
        self._begun = now + pause
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            keep = {self._container, theirs.fileno(), *self.ends.values()}
            offspring.begin(self._title, "pump", self._name, keep, lambda: self._pump(theirs, pause))
        ours.setblocking(False)
        self.leash = ours
        if self._watch is not None:
            self._watch(ours.fileno(), True)

    def _let_go(self, sock: socket.socket) -> None:
        if self._watch is not None:
            self._watch(sock.fileno(), False)
        sock.close()

    def _pump(self, leash: socket.socket, pause: float) -> None:
        time.sleep(pause)
        pump.Pump(self.ends, self._container, self._listen(), leash).serve()

    def _listen(self) -> socket.socket | None:
        """Without a socket nobody can attach, and the container's output still goes to its log."""
        try:
            listener = channel.listen(self._directory, pump.SOCKET)
        except OSError as error:
            offspring.say(f"pump {self._name}: nobody can attach: {error}")
            return None
        listener.setblocking(False)
        return listener

    def close(self) -> None:
        for sock in (self.console, self.leash):
            if sock is not None:
                self._let_go(sock)
        for fd in self.ends.values():
            os.close(fd)
        self.console = self.leash = None
        self.ends.clear()


def prepare(kind: str | None, roles: Mapping[str, int]) -> tuple[Held | None, dict[str, int]]:
    """For a fork: what the keeper holds, and what the child gets by role (the caller closes that). kind: "pump" of the
    launch plan. roles: the descriptors that came with the request, the container's logs among them."""
    if kind is None:
        return None, {}
    held = Held({f"log:{stream}": os.dup(roles[stream]) for stream in ("stdout", "stderr")})
    if kind == terminal.TTY:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        held.console = ours
        return held, {terminal.CONSOLE: theirs.detach()}
    lent: dict[str, int] = {}
    lent["stdin"], held.ends["stdin"] = os.pipe2(os.O_CLOEXEC)
    for stream in ("stdout", "stderr"):
        held.ends[stream], lent[stream] = os.pipe2(os.O_CLOEXEC)
    return held, lent


def adopt(roles: Mapping[str, int]) -> Held | None:
    """For an adoption: of the descriptors that came, those under our prefix; they are ours then."""
    given = {name.removeprefix(PREFIX): fd for name, fd in roles.items() if name.startswith(PREFIX)}
    if not given:
        return None
    leash = given.pop(LEASH.removeprefix(PREFIX))
    held = Held(given)
    held.leash = _socket(leash)
    return held


def _socket(fd: int) -> socket.socket | None:
    if fd < 0:
        return None
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
