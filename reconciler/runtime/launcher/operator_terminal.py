"""The terminal of whoever runs `attach` or `exec -t`: raw while relayed, given back as it was on every way out.

Signals that end the command are turned into an ordinary exit meanwhile, so that the terminal is restored then
too; only SIGKILL can prevent that. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import threading
import tty
from types import FrameType, TracebackType
from typing import Any

from reconciler.runtime.kernel import terminals
from reconciler.runtime.kernel.terminals import Size

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_CTRL_P, _CTRL_Q = 0x10, 0x11


class DetachKeys:
    """Finds ctrl-p ctrl-q in what is typed; a ctrl-p alone is passed on with what follows it."""

    def __init__(self, active: bool) -> None:
        self._active = active
        self._held = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what to pass on, whether the keys were pressed). What follows them is dropped."""
        if not self._active:
            return data, False
        passed = bytearray()
        for byte in data:
            if self._held and byte == _CTRL_Q:
                return bytes(passed), True
            if self._held:
                passed.append(_CTRL_P)
            self._held = byte == _CTRL_P
            if not self._held:
                passed.append(byte)
        return bytes(passed), False


class Operator:
    """Standard input and output of this command. `raw`: whether they were made so, since stdin is a terminal and
    `wanted`. `resized`: readable after the window may have changed."""

    def __init__(self, wanted: bool) -> None:
        self.raw = wanted and os.isatty(0)
        self.resized, self._resized = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Operator:
        if threading.current_thread() is threading.main_thread():  # nobody else may have handlers
            self._handlers = {number: signal.signal(number, _leave) for number in _ENDING}
            self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._note)
        if self.raw:
            self._before = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSANOW)  # not TCSAFLUSH: what was typed ahead is for the container
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSANOW, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self.resized)
        os.close(self._resized)

    def _note(self, number: int, frame: FrameType | None) -> None:
        os.write(self._resized, b"w")

    def was_resized(self) -> bool:
        return bool(os.read(self.resized, 4096))

    def size(self) -> Size | None:
        return window()


def window() -> Size | None:
    """Of the terminal we are run on; None without one."""
    return terminals.size_of(0) or terminals.size_of(1)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def write_all(fd: int, data: bytes) -> None:
    """All of it, also where whoever started us has made the stream non-blocking."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [])
