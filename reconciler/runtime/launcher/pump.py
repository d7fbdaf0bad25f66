"""The pump of a container with a terminal or an open stdin: between its streams, its logs and whoever is attached.

    terminal │ stdout, stderr ──▶ log files ──▶ every reader          RUNTIME/containers/<name>/attach.sock
    terminal │ stdin          ◀── the one writer: bytes, window sizes, end of input

One process per such container, forked by the keeper, so that no stream can stall launches. Invariants: the container
waits for nobody who is attached: a reader that falls too far behind is dropped, what the writer sends too fast is left
in its socket. There is one writer. The pump ends with the container's first process, once all it wrote has been
taken, whether or not a keeper is there; a pump that dies is replaced by the keeper, which holds the same descriptors.

Packets (SOCK_SEQPACKET): a JSON greeting each way, then a letter and bytes. To the pump: i input, z size (rows and
columns), e end of input. From it: o stdout, r stderr, e the input was closed (to keepers), x the container has ended.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping

from reconciler.runtime.kernel import terminals
from reconciler.runtime.kernel.terminals import Size
from reconciler.runtime.launcher import channel

SOCKET = "attach.sock"
VERSION = 1
INPUT, SIZE, END, STDOUT, STDERR, OVER = b"i", b"z", b"e", b"o", b"r", b"x"
SIZE_FORMAT = "=HH"
PACKET = 64 * 1024

_CLIENTS = 64
_BEHIND = 4 * 1024 * 1024  # bytes a reader may fall behind; all of them share the packets
_PACKET_COST = 64  # bytes of memory a packet takes beside its own
_INPUT_PENDING = 64 * 1024  # bytes taken from the writer that the payload has not read yet
_DRAIN = 0.25  # seconds for what is still in the streams, then for readers, once the container has ended
_HUNG_UP = 0.1  # seconds between looks at a terminal that nobody has open

_OUTPUTS: Mapping[str, tuple[str, bytes]] = {
    "terminal": ("log:stdout", STDOUT),
    "stdout": ("log:stdout", STDOUT),
    "stderr": ("log:stderr", STDERR),
}


class _Client:
    """One connection. role: "" before its greeting, then reader, writer or keeper."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.role = ""
        self.queue: deque[bytes] = deque()
        self.behind = 0

    def send(self, packet: bytes) -> bool:
        """False when it is too far behind, or gone."""
        self.queue.append(packet)
        self.behind += len(packet) + _PACKET_COST
        return self.flush() and self.behind <= _BEHIND

    def flush(self) -> bool:
        while self.queue:
            try:
                self.sock.send(self.queue[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.behind -= len(self.queue.popleft()) + _PACKET_COST
        return True


class Pump:
    """ends: terminal, or stdin, stdout and stderr; and the logs, as log:stdout and log:stderr. container: pidfd of its
    first process. leash: to the keeper that forked us."""

    def __init__(
        self, ends: dict[str, int], container: int, listener: socket.socket | None, leash: socket.socket
    ) -> None:
        self._ends = ends
        self._container = container
        self._listener = listener
        keeper = _Client(leash)
        keeper.role = "keeper"
        leash.setblocking(False)
        self._clients: dict[int, _Client] = {leash.fileno(): keeper}
        self._pending = bytearray()
        self._closing = False
        self._asleep_until = 0.0
        for name, fd in ends.items():
            if not name.startswith("log:"):
                os.set_blocking(fd, False)

    # ---- the loop

    def serve(self) -> None:
        """Until the container has ended and all it wrote was taken."""
        while not self._turn(None):
            continue
        deadline = time.monotonic() + _DRAIN
        self._asleep_until = 0.0
        while self._open_outputs() and time.monotonic() < deadline:
            self._turn(deadline)
            if self._asleep_until:
                break  # a terminal that nobody has open any more
        for client in list(self._clients.values()):
            if client.role != "keeper" and not client.send(OVER):
                self._drop(client)
        deadline = time.monotonic() + _DRAIN
        while any(client.queue for client in self._clients.values()) and time.monotonic() < deadline:
            self._turn(deadline)

    def _turn(self, deadline: float | None) -> bool:
        """Wait for something and deal with it. deadline None: the container runs; whether it has ended."""
        poll = select.poll()
        now = time.monotonic()
        timeout = None if deadline is None else max(deadline - now, 0)
        if deadline is None:
            poll.register(self._container, select.POLLIN)
            if self._listener is not None:
                poll.register(self._listener, select.POLLIN)
        for fd, events in self._wanted(now):
            poll.register(fd, events)
        if self._asleep_until > now:
            timeout = min(self._asleep_until - now, _HUNG_UP if timeout is None else timeout)
        ended = False
        for fd, events in poll.poll(None if timeout is None else timeout * 1000 + 1):
            if fd == self._container:
                ended = True
            elif self._listener is not None and fd == self._listener.fileno():
                self._accept()
            elif fd in self._clients:
                self._attend(self._clients[fd], events)
            else:
                self._stream(fd, events)
        return ended

    def _wanted(self, now: float) -> list[tuple[int, int]]:
        found: dict[int, int] = {}
        awake = now >= self._asleep_until
        for name in self._open_outputs():
            if name != "terminal" or awake:
                found[self._ends[name]] = select.POLLIN
        entry = self._ends.get("terminal", self._ends.get("stdin", -1))
        if entry >= 0 and self._pending and (awake or "stdin" in self._ends):
            found[entry] = found.get(entry, 0) | select.POLLOUT
        elif "stdin" in self._ends:
            found[self._ends["stdin"]] = 0  # an error there says that nobody will read it any more
        full = len(self._pending) >= _INPUT_PENDING
        for fd, client in self._clients.items():
            reading = 0 if full and client.role == "writer" else select.POLLIN
            found[fd] = reading | (select.POLLOUT if client.queue else 0)
        return list(found.items())

    def _open_outputs(self) -> list[str]:
        return [name for name in _OUTPUTS if name in self._ends]

    # ---- the container's streams

    def _stream(self, fd: int, events: int) -> None:
        name = next((name for name, end in self._ends.items() if end == fd), "")
        if name in _OUTPUTS and events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._output(name)
        if name in ("terminal", "stdin") and events & select.POLLOUT:
            self._feed()
        elif name == "stdin" and events & select.POLLERR:
            self._close_input()

    def _output(self, name: str) -> None:
        try:
            data = os.read(self._ends[name], PACKET - 1)
        except BlockingIOError:
            return
        except OSError:  # EIO: no process has the terminal open; one may open it again
            self._asleep_until = time.monotonic() + _HUNG_UP
            return
        self._asleep_until = 0.0
        log, letter = _OUTPUTS[name]
        if not data:
            os.close(self._ends.pop(name))
            return
        _write_all(self._ends[log], data)
        packet = letter + data
        for client in list(self._clients.values()):
            if client.role in ("reader", "writer") and not client.send(packet):
                self._drop(client)

    def _feed(self) -> None:
        """Give the payload what the writer sent."""
        entry = self._ends.get("terminal", self._ends.get("stdin", -1))
        try:
            written = os.write(entry, self._pending[:PACKET])
        except BlockingIOError:
            return
        except OSError:
            if "stdin" in self._ends:
                self._close_input()
            self._pending.clear()
            return
        del self._pending[:written]
        if self._closing and not self._pending:
            self._close_input()

    def _end_input(self) -> None:
        """What was sent before comes first. A terminal stays open, and is sent its end-of-input character."""
        if "terminal" in self._ends:
            with contextlib.suppress(OSError):
                self._pending += terminals.end_of_input(self._ends["terminal"])
        elif self._pending:
            self._closing = True
        else:
            self._close_input()

    def _close_input(self) -> None:
        """Whoever else holds it must let go too, or the payload waits for ever."""
        self._pending.clear()
        if "stdin" in self._ends:
            os.close(self._ends.pop("stdin"))
            for client in list(self._clients.values()):
                if client.role == "keeper":
                    client.send(END)

    # ---- who is attached

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= _CLIENTS:
            sock.close()
            return
        sock.setblocking(False)
        self._clients[sock.fileno()] = _Client(sock)

    def _attend(self, client: _Client, events: int) -> None:
        if events & select.POLLOUT and not client.flush():
            self._drop(client)
        elif events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._hear(client)  # what one who hung up had sent still counts, and is no more than its socket holds

    def _hear(self, client: _Client) -> None:
        try:
            if not client.role:
                self._greet(client)
                return
            packet = client.sock.recv(PACKET)
        except BlockingIOError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            packet = b""
        if not packet:
            self._drop(client)
        elif client.role == "writer":
            self._obey(packet[:1], packet[1:])

    def _obey(self, letter: bytes, data: bytes) -> None:
        if letter == INPUT and ("terminal" in self._ends or "stdin" in self._ends):
            self._pending += data
        elif letter == SIZE and "terminal" in self._ends and len(data) == struct.calcsize(SIZE_FORMAT):
            terminals.set_size(self._ends["terminal"], Size(*struct.unpack(SIZE_FORMAT, data)))
        elif letter == END:
            self._end_input()

    def _greet(self, client: _Client) -> None:
        received = channel.receive(client.sock)
        if received is None:
            self._drop(client)
            return
        message, fds = received
        for fd in fds:
            os.close(fd)
        answer: channel.Message = {"version": VERSION, "tty": "terminal" in self._ends}
        give: dict[str, int] = {}
        if refusal := self._refusal(client, message):
            answer = {"version": VERSION, "error": refusal}
        else:
            client.role = message["role"]
            give = self._ends if client.role == "keeper" else {}
        channel.send(client.sock, {**answer, "roles": list(give)}, list(give.values()))
        if refusal:
            self._drop(client)

    def _refusal(self, client: _Client, message: channel.Message) -> str:
        if message["version"] != VERSION:
            return f"it speaks version {VERSION}, not {message['version']}"
        if message["role"] not in ("reader", "writer", "keeper"):
            return f"no such role: {message['role']!r}"
        writer = next((other for other in self._clients.values() if other.role == "writer"), None)
        if message["role"] == "writer" and writer is not None:
            return f"process {_peer(writer.sock)} has its input already"
        return ""

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        client.sock.close()


def _peer(sock: socket.socket) -> int:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def _write_all(fd: int, data: bytes) -> None:
    """Into the log; what a full disk does not take is lost, the container goes on."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(fd, data) :]
