"""Somebody at a terminal who runs our command, and somebody who speaks to a pump without one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

from reconciler.errors import Retryable
from reconciler.runtime.kernel import terminals
from reconciler.runtime.kernel.terminals import Size
from reconciler.runtime.launcher import attaching, pump
from tests import processes
from tests.integration.runtime.world import World, until

CHECKOUT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "reconciler.cli.main"]
CTRL_C, CTRL_D, CTRL_Z, DETACH = b"\x03", b"\x04", b"\x1a", b"\x10\x11"


class Operator:
    """The command on a pseudoterminal of its own, which is its controlling one. `shown`: all that appeared there."""

    def __init__(self, world: World, verb: str, *argv: str, rows: int = 30, columns: int = 100) -> None:
        self.master, self.slave = os.openpty()
        os.set_blocking(self.master, False)
        terminals.set_size(self.master, Size(rows, columns))
        self.modes = termios.tcgetattr(self.slave)
        where = ["--root", str(world.root), "--runtime-dir", str(world.run)]
        # forked into a session that is not ours, and waited for here: the tests' reaper leaves it alone
        self.process = subprocess.Popen(
            ["setsid", "--fork", "--wait", "--ctty", *COMMAND, verb, *where, *argv],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            cwd=CHECKOUT,
            env={"PATH": os.environ["PATH"], "TERM": "vt220"},
        )
        self._bytes = b""

    @property
    def shown(self) -> str:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.master, 65536):
                self._bytes += data
        return self._bytes.decode(errors="replace")

    @property
    def pid(self) -> int:
        """Of the command itself; 0 while it is not there."""
        below = processes.below(self.process.pid)
        return below[0].pid if below else 0

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def resize(self, rows: int, columns: int) -> None:
        terminals.set_size(self.master, Size(rows, columns))

    async def sees(self, text: str) -> str:
        try:
            await until(f"{text!r} is shown", lambda: text in self.shown)
        except AssertionError as error:
            raise AssertionError(f"{error}; shown: {self.shown!r}") from None
        return self.shown

    async def ended(self) -> int:
        def over() -> bool:
            return self.shown is not None and self.process.poll() is not None  # a full terminal would hold it up

        await until(f"the command is over; shown: {self.shown!r}", over)
        return self.process.returncode

    @property
    def is_raw(self) -> bool:
        return not int(termios.tcgetattr(self.slave)[3]) & termios.ICANON

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.modes

    def waiting_input(self) -> bytes:
        """What the operator's shell would read next."""
        os.set_blocking(self.slave, False)
        with contextlib.suppress(BlockingIOError):
            return os.read(self.slave, 4096)
        return b""

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or self.process.pid, 9)
        self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)


class Line:
    """A connection to the pump of a container, as `attach` has it. `heard`: output by stream."""

    def __init__(self, world: World, name: str, role: str = "writer") -> None:
        self.sock, self.answer = attaching.connect(directory(world, name), role, lambda: True)
        self.sock.setblocking(False)
        self.heard = {pump.STDOUT: b"", pump.STDERR: b""}
        self.over = False
        self.lost = False

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, letter: bytes, data: bytes = b"") -> None:
        self.sock.send(letter + data)

    def resize(self, rows: int, columns: int) -> None:
        self.send(pump.SIZE, struct.pack(pump.SIZE_FORMAT, rows, columns))

    def listen(self) -> dict[bytes, bytes]:
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while not self.lost:
                packet = self.sock.recv(pump.PACKET)
                self.over = self.over or packet == pump.OVER
                self.lost = not packet
                if packet[:1] in self.heard:
                    self.heard[packet[:1]] += packet[1:]
        return self.heard

    async def hears(self, text: bytes, letter: bytes = pump.STDOUT) -> None:
        await until(f"{text!r} is heard", lambda: text in self.listen()[letter])

    async def hears_the_end(self) -> None:
        await until("the end is told", lambda: bool(self.listen()) and self.over)


def directory(world: World, name: str) -> Path:
    return world.run / "containers" / name


def pumps(world: World) -> list[int]:
    """Of this test's containers; those of a dead keeper are children of ours."""
    return sorted(each.pid for each in processes.below(os.getpid()) if is_pump(each.pid))


def is_pump(pid: int) -> bool:
    return "".join(processes.cmdline(pid)[:1]).startswith("pump ")


async def pump_of(world: World) -> int:
    """The only one there is."""
    found: list[int] = await until("there is a pump", lambda: pumps(world), 20)
    assert len(found) == 1
    return found[0]


def descriptors(pid: int) -> int:
    return len(processes.names(f"/proc/{pid}/fd"))


def is_refused(world: World, name: str, role: str) -> str:
    """What the pump says to another one who wants that role; empty when it is let in."""
    try:
        sock, _, _ = attaching.greet(directory(world, name), role)
    except Retryable as error:
        return error.message
    sock.close()
    return ""


async def run_quietly(world: World, *argv: str, **options: Any) -> tuple[int, str, str]:
    """The command with pipes instead of a terminal: (code, stdout, stderr)."""
    where = ["--root", str(world.root), "--runtime-dir", str(world.run)]
    command, given = [*COMMAND, argv[0], *where, *argv[1:]], options.get("stdin", "")
    within = 20 * processes.PATIENCE
    done = await asyncio.to_thread(
        subprocess.run, command, input=given, capture_output=True, text=True, timeout=within, cwd=CHECKOUT, check=False
    )
    return done.returncode, done.stdout, done.stderr
