"""The standard streams of an `exec`: passed on as they are, but never a terminal of the operator's.

    with a terminal of its own   made inside; its master comes back over the console and is relayed here
    else, a file or a pipe       the process gets the very same
          a terminal             a pipe in its place, relayed here: what holds an operator's terminal can read what is
                                 typed next and push into it (TIOCSTI)

Standard library only.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from types import TracebackType

from reconciler.runtime.kernel import terminals
from reconciler.runtime.kernel.terminals import DEFAULT_SIZE, Size
from reconciler.runtime.launcher import terminal
from reconciler.runtime.launcher.operator_terminal import Operator, window, write_all

_CHUNK = 64 * 1024
_CONSOLE_SECONDS = 5.0
_UNUSED_MS = 100  # between looks at a terminal that nobody has open
_IDLE_MS = 100  # after the end, for output that is still on its way or held back by what it left running


class Streams:
    """lent: the new process's descriptors by role, to be closed once it has them."""

    def __init__(self, *, stdin: bool, tty: bool) -> None:
        self.tty: Size | None = (window() or DEFAULT_SIZE) if tty else None
        self.lent: dict[str, int] = {}
        self._stdin = stdin
        self._entry = -1
        self._ways: dict[int, int] = {}
        self._console: socket.socket | None = None
        self._pending = bytearray()
        self._ended = False  # our own input
        self._unused = False  # nobody has the terminal open at the moment
        if tty:
            self._console, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.lent = {terminal.CONSOLE: theirs.detach()}
        self._lend("stdin", 0, os.O_RDONLY, wanted=stdin and not tty)
        self._lend("stdout", 1, os.O_WRONLY, wanted=not tty)
        self._lend("stderr", 2, os.O_WRONLY, wanted=not tty)

    def _lend(self, role: str, own: int, mode: int, *, wanted: bool) -> None:
        if not wanted:
            self.lent[role] = os.open(os.devnull, mode | os.O_CLOEXEC)
        elif not os.isatty(own):
            self.lent[role] = os.dup(own)
        elif own == 0:
            self.lent[role], self._entry = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._entry, False)
        else:
            ours, self.lent[role] = os.pipe2(os.O_CLOEXEC)
            self._ways[ours] = own

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.given()
        for fd in {self._entry, *self._ways} - {-1}:
            os.close(fd)
        if self._console is not None:
            self._console.close()

    def given(self) -> None:
        """The process has its descriptors: an end of file must be able to reach us."""
        for fd in self.lent.values():
            os.close(fd)
        self.lent.clear()

    def relay(self, events: socket.socket, over: Callable[[], int | None]) -> int:
        """Until `over`, asked whenever `events` is readable, gives the exit code."""
        self._take_terminal()
        if self._entry < 0 and not self._ways:
            while (code := over()) is None:
                continue
            return code
        with Operator(self.tty is not None and self._stdin) as operator:
            while True:
                ready = self._wait(events, operator)
                if self.tty and operator.resized in ready and operator.was_resized() and (size := window()):
                    terminals.set_size(next(iter(self._ways)), size)
                self._move(ready)
                if events.fileno() in ready and (code := over()) is not None:
                    self._drain()
                    return code

    def _take_terminal(self) -> None:
        if self._console is None:
            return
        self._console.settimeout(_CONSOLE_SECONDS)
        master = terminal.received(self._console)
        if master is None:
            return  # it ended before it had one; how is told by its exit
        os.set_blocking(master, False)
        self._ways[master] = 1
        if self._stdin:
            self._entry = master

    def _wait(self, events: socket.socket, operator: Operator) -> dict[int, int]:
        poll = select.poll()
        wanted = {events.fileno(): select.POLLIN, operator.resized: select.POLLIN}
        unused, self._unused = self._unused, False
        wanted |= {} if unused else dict.fromkeys(self._ways, select.POLLIN)
        if self._entry >= 0 and self._pending and not unused:
            wanted[self._entry] = wanted.get(self._entry, 0) | select.POLLOUT
        if self._entry >= 0 and not self._ended and len(self._pending) < _CHUNK:
            wanted[0] = select.POLLIN
        for fd, mask in wanted.items():
            poll.register(fd, mask)
        return dict(poll.poll(_UNUSED_MS if unused else None))

    def _move(self, ready: dict[int, int]) -> None:
        for fd in [fd for fd in self._ways if ready.get(fd, 0) & (select.POLLIN | select.POLLHUP | select.POLLERR)]:
            self._output(fd)
        if 0 in ready:
            self._input()
        if ready.get(self._entry, 0) & select.POLLOUT:
            self._feed()

    def _output(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            # EIO: nobody has the terminal open. It stays open here, or who is just ending would be hung up (SIGHUP)
            self._unused = True
            return
        if data:
            write_all(self._ways[fd], data)
        else:
            del self._ways[fd]
            os.close(fd)

    def _input(self) -> None:
        data = os.read(0, _CHUNK)
        self._pending += data
        if not data:
            self._ended = True
            if self.tty and self._entry >= 0:
                self._pending += terminals.end_of_input(self._entry)
            elif not self._pending:
                self._close_entry()

    def _feed(self) -> None:
        try:
            written = os.write(self._entry, self._pending)
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            self._pending.clear()
            self._ended = True
            if not self.tty:
                self._close_entry()
            return
        del self._pending[:written]
        if self._ended and not self._pending and not self.tty:
            self._close_entry()

    def _close_entry(self) -> None:
        os.close(self._entry)
        self._entry = -1

    def _drain(self) -> None:
        self._unused = False
        while self._ways and not self._unused:
            poll = select.poll()
            for fd in self._ways:
                poll.register(fd, select.POLLIN)
            ready = poll.poll(_IDLE_MS)
            if not ready:
                return
            for fd, _ in ready:
                self._output(fd)
