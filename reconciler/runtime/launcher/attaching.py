"""The other side of a pump's socket: greeting it, waiting for its end, and relaying an operator's terminal to it.

    attach      stdin ─▶ input, window sizes, end of input ─▶ pump        pump ─▶ stdout, stderr
    borrow      for a keeper that takes over: the descriptors the pump holds, and a leash
    settled     whether the pump of a container that has ended has taken all there was

Works without an agent. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from reconciler.errors import Retryable
from reconciler.runtime.launcher import channel, pump
from reconciler.runtime.launcher.operator_terminal import DetachKeys, Operator, write_all
from reconciler.runtime.launcher.pump_holding import LEASH, PREFIX
from reconciler.states import Reason

_GREETING_SECONDS = 2.0
_RESTART_SECONDS = 2.0  # a pump that was killed is back by then
_POLL = 0.01


class End(Enum):
    """Why an attachment is over."""

    DETACHED = "detached"
    CONTAINER = "the container has ended"
    LOST = "the connection was lost"


def greet(directory: Path, role: str) -> tuple[socket.socket, dict[str, Any], list[int]]:
    """(connection, the pump's answer, descriptors). Raises OSError when nobody is there, Retryable when refused."""
    sock = channel.connect(str(directory), pump.SOCKET, timeout=_GREETING_SECONDS)
    try:
        channel.send(sock, {"version": pump.VERSION, "role": role})
        received = channel.receive(sock)
        if received is None:
            raise ConnectionResetError("the container's pump has gone")
        answer, fds = received
        if "error" in answer:
            raise Retryable(str(answer["error"]), Reason.STATE_UNKNOWN)
    except BaseException:
        sock.close()
        raise
    return sock, answer, fds


def borrow(directory: Path) -> dict[str, int]:
    """What a running pump holds, by the roles of an adoption; empty when the container has none. The caller closes."""
    try:
        sock, answer, fds = greet(directory, "keeper")
    except (OSError, ValueError, Retryable):
        return {}
    held = {PREFIX + role: fd for role, fd in zip(answer["roles"], fds, strict=True)}
    return {**held, LEASH: sock.detach()}


def settled(directory: Path, seconds: float) -> bool:
    """Wait until the pump has ended. It does so by itself once its container has."""
    try:
        sock = channel.connect(str(directory), pump.SOCKET, timeout=seconds)
    except (FileNotFoundError, ConnectionRefusedError):
        return True
    except OSError:
        return False
    with sock:
        try:
            while sock.recv(pump.PACKET):
                continue
        except TimeoutError:
            return False
        except OSError:  # reset: it ended before it accepted us
            return True
    return True


def connect(directory: Path, role: str, runs: Callable[[], bool]) -> tuple[socket.socket, dict[str, Any]]:
    """As `greet`, patient with a pump that is just being started, for as long as `runs()`. Raises Retryable."""
    deadline = time.monotonic() + _RESTART_SECONDS
    while True:
        try:
            sock, answer, _ = greet(directory, role)
            return sock, answer
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError, BrokenPipeError) as error:
            if not runs() or time.monotonic() > deadline:
                raise Retryable(f"nobody answers at {directory / pump.SOCKET}", Reason.STATE_UNKNOWN) from error
        time.sleep(_POLL)


def attach(sock: socket.socket, *, tty: bool, writes: bool) -> End:
    """Relay until the container ends, the operator detaches or the pump is lost. tty: what the container has."""
    with sock, Operator(tty and writes) as operator:
        if writes and tty:
            _tell_size(sock, operator)
        return _Relay(sock, operator, tty=tty, writes=writes).run()


def _tell_size(sock: socket.socket, operator: Operator) -> None:
    if size := operator.size():
        sock.send(pump.SIZE + struct.pack(pump.SIZE_FORMAT, *size), socket.MSG_NOSIGNAL)


class _Relay:
    def __init__(self, sock: socket.socket, operator: Operator, *, tty: bool, writes: bool) -> None:
        self._sock = sock
        self._operator = operator
        self._tty = tty
        self._keys = DetachKeys(operator.raw)
        self._listening = writes
        sock.setblocking(True)
        sock.settimeout(None)

    def run(self) -> End:
        while True:
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            poll.register(self._operator.resized, select.POLLIN)
            if self._listening:
                poll.register(0, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if self._operator.resized in ready and self._operator.was_resized() and self._tty and self._listening:
                    _tell_size(self._sock, self._operator)
                if 0 in ready and self._input():
                    return End.DETACHED
            if self._sock.fileno() in ready and (end := self._output()):
                return end

    def _input(self) -> bool:
        """Whether the operator has detached."""
        data = os.read(0, pump.PACKET // 2)
        if not data:
            self._listening = False
            self._sock.send(pump.END, socket.MSG_NOSIGNAL)
            return False
        passed, detached = self._keys.feed(data)
        if passed:
            self._sock.send(pump.INPUT + passed, socket.MSG_NOSIGNAL)
        return detached

    def _output(self) -> End | None:
        try:
            packet = self._sock.recv(pump.PACKET)
        except ConnectionResetError:
            packet = b""
        letter, data = packet[:1], packet[1:]
        if letter == pump.STDOUT:
            write_all(1, data)
        elif letter == pump.STDERR:
            write_all(2, data)
        elif letter == pump.OVER:
            return End.CONTAINER
        return None if packet else End.LOST
