"""The agent's and the command line's end of the keeper's socket, and how a keeper is started.

The keeper is started by whoever needs it first: a fresh interpreter with nothing but the standard library,
in a session of its own, with no descriptor of ours. A lost connection fails every request under way
with ConnectionError and is told to `on_lost`; containers do not notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.runtime.kernel import mounts
from reconciler.runtime.launcher import channel
from reconciler.runtime.launcher.keeper import ALREADY_KEPT, OLDEST, SOCKET, VERSION

__all__ = ["VERSION", "Caller", "Connection", "KeeperError", "connect", "end", "start"]

PACKAGE = Path(__file__).resolve().parents[3]  # where `reconciler` is imported from
_IMPORT = "import sys; sys.path.insert(0, sys.argv[1]); from reconciler.runtime.launcher import keeper; "
_START = _IMPORT + "sys.exit(keeper.main(sys.argv[3]))"
_GO_ON = _IMPORT + "sys.exit(keeper.go_on(*sys.argv[2:]))"
_START_SECONDS = 60.0  # one that dies is noticed at once: this is for one that hangs, not for a slow machine
_CALL_SECONDS = 30.0


class KeeperError(OSError):
    """The keeper could not do it: `stage`, errno, `what` and `path` are the child's or the keeper's own words."""

    def __init__(self, stage: str, number: int, what: str, path: str | None) -> None:
        super().__init__(number, what, path)
        self.stage = stage
        self.what = what

    @classmethod
    def of(cls, error: dict[str, Any]) -> KeeperError:
        return cls(str(error.get("stage")), int(error.get("errno") or 0), str(error.get("what")), error.get("path"))

    def sentence(self) -> str:
        where = f" {self.filename}" if self.filename else ""
        return f"{self.stage}{where}: {self.what}"


def _command(code: str, package: Path | None) -> list[str]:
    return [sys.executable, "-I", "-S", "-E", "-c", code, str(package or PACKAGE)]


def start(runtime_dir: Path, package: Path | None = None) -> None:
    """Start a keeper unless there is one. Returns once it listens. Raises OSError with what it said."""
    with _interpreter() as (executable, fds):
        result = subprocess.run(
            [*_command(_START, package), "keeper", str(runtime_dir)],
            executable=executable,
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            timeout=_START_SECONDS,
            check=False,
        )
    if result.returncode not in (0, ALREADY_KEPT):
        said = result.stderr.decode(errors="replace").strip().splitlines() or _last_words(runtime_dir)
        raise OSError(f"the keeper of {runtime_dir} did not start: {said[-1] if said else result.returncode}")


def _last_words(runtime_dir: Path) -> list[str]:
    """A keeper that has let go of its starter's descriptors complains to its own log."""
    with contextlib.suppress(OSError):
        return (runtime_dir / "keeper.log").read_text(errors="replace").splitlines()
    return []


@contextlib.contextmanager
def _interpreter() -> Iterator[tuple[str, tuple[int, ...]]]:
    """What to run, and the descriptors it needs: our interpreter as a read-only mount shows it, attached nowhere.

    Keeper, inits and whatever a container has them run as `#!/proc/self/exe` have it as /proc/PID/exe, which can be
    opened for writing from inside unless its mount says no (CVE-2019-5736). An ordinary user cannot make such a mount,
    and needs none: no container of theirs is more than themselves."""
    try:
        found = os.open(os.path.realpath(sys.executable), os.O_PATH | os.O_CLOEXEC)
        try:
            tree = mounts.copy(found)
        finally:
            os.close(found)
    except PermissionError:
        yield sys.executable, ()
        return
    try:
        mounts.change(tree, give=mounts.MOUNT_ATTR_RDONLY)
        yield f"/proc/self/fd/{tree}", (tree,)
    finally:
        os.close(tree)


def connect(runtime_dir: Path, *, launch: bool = True) -> socket.socket:
    """A connection to the keeper, started if need be and `launch`. Raises OSError."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return channel.connect(str(runtime_dir), SOCKET, timeout=_CALL_SECONDS)
        if not launch:
            raise ConnectionRefusedError(f"no keeper is running for {runtime_dir}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"no keeper of {runtime_dir} answered within {_START_SECONDS:.0f} s")
        start(runtime_dir)


def end(runtime_dir: Path, timeout: float) -> None:
    """Ask the keeper, if there is one, to go as soon as it has no container, and wait for that."""
    deadline = time.monotonic() + timeout
    try:
        sock = connect(runtime_dir, launch=False)
    except (FileNotFoundError, ConnectionRefusedError):
        return
    with sock:
        sock.settimeout(timeout)
        caller = Caller(sock)
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            caller.call("end")
            while time.monotonic() < deadline:
                caller.receive()  # it says nothing more: this is its end


SPOKEN = range(VERSION, OLDEST - 1, -1)


def strange(refused: KeeperError) -> OSError:
    """For a keeper that refused every version we speak."""
    return OSError(
        f"this keeper cannot be talked to: {refused.what}, and we speak {OLDEST} to {VERSION}; its containers go on "
        "without an agent; use the release that they were started by, or end them and the keeper ends with the last"
    )


@contextlib.contextmanager
def upgrading(package: Path | None = None) -> Iterator[tuple[dict[str, int], dict[str, Any]]]:
    """Descriptors and fields of a request `upgrade`: how to run a keeper of `package`, ours by default."""
    with _interpreter() as (executable, _):
        exe = os.open(executable, os.O_PATH | os.O_CLOEXEC)
        try:
            yield {"exe": exe}, {"command": _command(_GO_ON, package)}
        finally:
            os.close(exe)


def _request(op: str, seq: int, fds: Mapping[str, int] | None, fields: dict[str, Any]) -> channel.Message:
    """`roles` names the descriptors that travel along, in order."""
    return {"op": op, "seq": seq, "roles": list(fds or ()), **fields}


class Caller:
    """Blocking requests, for the command line."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._seq = itertools.count(1)

    def call(self, op: str, fds: Mapping[str, int] | None = None, **fields: Any) -> tuple[channel.Message, list[int]]:
        seq = next(self._seq)
        channel.send(self.sock, _request(op, seq, fds, fields), list((fds or {}).values()))
        while True:
            answer, given = self.receive()
            if answer.get("seq") == seq:
                if not answer["ok"]:
                    raise KeeperError.of(answer["error"])
                return answer, given

    def receive(self) -> tuple[channel.Message, list[int]]:
        received = channel.receive(self.sock)
        if received is None:
            raise ConnectionResetError("the keeper has gone")
        return received

    def hello(self, role: str) -> channel.Message:
        for version in SPOKEN:
            try:
                return self.call("hello", role=role, version=version)[0]
            except KeeperError as error:
                refused = error
        raise strange(refused)


class Connection:
    """Requests from the event loop. `on_lost` is called once, with this, when the keeper has gone. Exits are not
    listened for: a pidfd tells sooner, and what the keeper reaped is in a file."""

    def __init__(self, sock: socket.socket, on_lost: Callable[[Connection], None]):
        sock.setblocking(False)
        self._sock = sock
        self._on_lost = on_lost
        self._seq = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[tuple[channel.Message, list[int]]]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)
        self.open = True

    async def call(
        self, op: str, fds: Mapping[str, int] | None = None, **fields: Any
    ) -> tuple[channel.Message, list[int]]:
        """The answer and the descriptors with it (the caller's to close). Raises KeeperError for a refusal,
        ConnectionError when the keeper has gone, TimeoutError."""
        if not self.open:
            raise ConnectionResetError("the keeper has gone")
        seq = next(self._seq)
        future = self._loop.create_future()
        self._waiting[seq] = future
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await self._send(_request(op, seq, fds, fields), list((fds or {}).values()))
                answer, given = await future
        finally:
            self._waiting.pop(seq, None)
        if not answer["ok"]:
            raise KeeperError.of(answer["error"])
        return answer, given

    async def _send(self, message: channel.Message, fds: list[int]) -> None:
        while True:
            try:
                channel.send(self._sock, message, fds)
                return
            except BlockingIOError:
                writable = asyncio.Event()
                self._loop.add_writer(self._sock.fileno(), writable.set)
                try:
                    await writable.wait()
                finally:
                    self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            received = channel.receive(self._sock)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            received = None
        if received is None:
            self.close()
            self._on_lost(self)
            return
        message, fds = received
        future = self._waiting.get(message.get("seq", 0))
        if future is not None and not future.done():
            future.set_result((message, fds))
            return
        for fd in fds:  # the answer to a call that was given up
            os.close(fd)

    def close(self) -> None:
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the keeper has gone"))
