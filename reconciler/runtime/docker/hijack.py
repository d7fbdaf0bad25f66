"""A connection to a process on an engine, both ways: what its API calls hijacking. Standard library only.

After the answer's head the connection carries the process's input as it is, and its output: with a terminal as it is,
else in frames. For `exec` and `attach` without the engine's own command.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Callable
from enum import Enum
from typing import Any

from reconciler.errors import ReconcilerError
from reconciler.runtime.docker import wire
from reconciler.runtime.docker.frames import STDERR, Frames
from reconciler.runtime.kernel.terminals import Size
from reconciler.runtime.launcher.operator_terminal import DetachKeys, Operator, write_all

_CHUNK = 1 << 16
_HEAD = 1 << 16
_SECONDS = 10.0


class Over(Enum):
    """Why nothing more comes."""

    DETACHED = "detached"
    CLOSED = "closed"


def opened(url: str, path: str, body: Any) -> tuple[socket.socket, bytes]:
    """(the connection, what of the output came with the answer's head). Raises ReconcilerError."""
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    connection = wire.connection(url, _SECONDS)
    try:
        connection.connect()
        sock: socket.socket = connection.sock
        sock.sendall(head.encode() + text)
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < _HEAD and (data := sock.recv(_CHUNK)):
            answer += data
    except OSError as error:
        connection.close()
        raise ReconcilerError(f"the Docker Engine at {url} does not answer: {error}") from error
    said, _, rest = answer.partition(b"\r\n\r\n")
    status = said.partition(b"\r\n")[0].split(b" ")
    if len(status) < 2 or status[1] not in (b"101", b"200"):
        connection.close()
        words = " ".join(rest.decode(errors="replace").split()) or "it closed the connection"
        raise ReconcilerError(f"the Docker Engine at {url} refuses: {words}")
    sock.settimeout(None)
    return sock, rest


def relay(
    sock: socket.socket, rest: bytes, *, tty: bool, stdin: bool, detach: bool, resize: Callable[[Size], object]
) -> Over:
    """Our standard streams and the process's, until it is over. stdin: it gets ours; detach: ctrl-p ctrl-q leaves it;
    resize: told of our window's size."""
    with sock, Operator(tty and stdin) as operator:
        return _Relay(sock, operator, tty=tty, stdin=stdin, detach=detach, resize=resize).run(rest)


class _Relay:
    def __init__(
        self,
        sock: socket.socket,
        operator: Operator,
        *,
        tty: bool,
        stdin: bool,
        detach: bool,
        resize: Callable[[Size], object],
    ) -> None:
        self._sock, self._operator, self._tty, self._resize = sock, operator, tty, resize
        self._keys, self._listening = DetachKeys(operator.raw and detach), stdin
        self._frames = Frames()

    def run(self, rest: bytes) -> Over:
        self._show(rest)
        self._tell_size()
        while True:
            poll = select.poll()
            for fd in (self._sock.fileno(), self._operator.resized, *((0,) if self._listening else ())):
                poll.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if self._operator.resized in ready and self._operator.was_resized():
                self._tell_size()
            if 0 in ready and self._input():
                return Over.DETACHED
            if self._sock.fileno() in ready:
                try:
                    data = self._sock.recv(_CHUNK)
                except ConnectionResetError:
                    data = b""
                if not data:
                    return Over.CLOSED
                self._show(data)

    def _tell_size(self) -> None:
        size = self._operator.size()
        if self._tty and size is not None:
            with contextlib.suppress(OSError, ReconcilerError):  # it may be over by now
                self._resize(size)

    def _input(self) -> bool:
        """Whether the operator has detached."""
        data = os.read(0, _CHUNK)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is seen by what it says
            if not data:
                self._listening = False
                self._sock.shutdown(socket.SHUT_WR)
                return False
            data, detached = self._keys.feed(data)
            self._sock.sendall(data)
            return detached
        return False

    def _show(self, data: bytes) -> None:
        if self._tty:
            write_all(1, data)
            return
        for stream, frame in self._frames.feed(data):
            write_all(2 if stream == STDERR else 1, frame)
