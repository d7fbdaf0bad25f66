"""`exec -it`: a terminal inside, job control, and nothing of the operator's own terminal."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.integration.runtime.world import World, until
from tests.integration.terminal.conftest import Sit
from tests.integration.terminal.operator import CTRL_C, CTRL_D, CTRL_Z, Operator, run_quietly

SLEEP = ["/bin/sleep", "1000"]
PUSH = """
import fcntl, os, sys, termios
tried = 0
for name in (0, 1, 2, "/dev/tty"):
    try:
        fd = name if isinstance(name, int) else os.open(name, os.O_RDWR)
        for byte in b"echo pushed\\n":
            fcntl.ioctl(fd, termios.TIOCSTI, bytes([byte]))
        tried += 1
    except OSError as error:
        print(name, error.strerror)
print("pushed", tried)
"""


async def test_it_has_a_terminal_of_the_operators_size_and_passes_its_code(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        script = "tty -s && stty size && echo $TERM && echo ctty >/dev/tty; exit 42"
        operator = sit(either, "exec", "-it", "shop", "--", "sh", "-c", script, rows=33, columns=99)
        assert await operator.ended() == 42
        assert operator.shown == "33 99\r\nvt220\r\nctty\r\n"
        assert operator.is_as_before


async def test_a_death_by_signal_is_told_as_the_shell_does(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        operator = sit(either, "exec", "-it", "shop", "--", "sh", "-c", "kill -9 $$")
        assert await operator.ended() == 137


async def prompt(operator: Operator) -> None:
    await operator.sees("prompt>")
    operator.type(b"PS1=; set -m; stty -echo\n")
    operator.type(b"echo quiet\n")
    await operator.sees("\nquiet")


async def test_a_shell_in_it_has_job_control(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        operator = sit(either, "exec", "-it", "--env", "PS1=prompt>", "shop", "--", "sh", "-i")
        await prompt(operator)
        operator.type(b"sleep 1001\n")
        await until("it is in the foreground", lambda: sleeping("1001"))
        operator.type(CTRL_Z)
        await operator.sees("Stopped")
        operator.type(b"fg\n")
        await until("it goes on", lambda: sleeping("1001") == "S")
        operator.type(CTRL_C)
        await until("it was interrupted", lambda: not sleeping("1001"))
        operator.type(b"echo still here; exit 7\n")
        assert await operator.ended() == 7 and "still here" in operator.shown


def sleeping(seconds: str) -> str:
    """The state of `sleep SECONDS` among our descendants; empty when there is none."""
    found = [each.state for each in processes.below(os.getpid()) if processes.cmdline(each.pid)[1:] == (seconds,)]
    return found[0] if found else ""


async def test_it_follows_the_operators_window_and_end_of_input(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        script = "trap 'stty size' WINCH; echo ready; while sleep 0.05; do :; done"
        operator = sit(either, "exec", "-it", "shop", "--", "sh", "-c", script)
        await operator.sees("ready")
        operator.resize(44, 144)
        await operator.sees("44 144")
        reader = sit(either, "exec", "-it", "shop", "--", "cat")
        await until("it is raw", lambda: reader.is_raw)
        reader.type(CTRL_D)
        assert await reader.ended() == 0


async def test_a_client_that_is_killed_takes_its_process_along(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        operator = sit(either, "exec", "-it", "shop", "--", "sh", "-c", "trap '' HUP; echo up; sleep 1002; sleep 1002")
        await operator.sees("up")
        os.kill(operator.pid, 9)
        await until("it ends too", lambda: not sleeping("1002"))
        assert (await agent.status("shop")).running


@pytest.mark.parametrize("flags", [[], ["-i"]], ids=["plain", "-i"])
async def test_without_a_terminal_of_its_own_it_cannot_reach_the_operators(
    either: World, sit: Sit, flags: list[str], base: Path
) -> None:
    """TIOCSTI would type into the operator's shell (CVE-2017-5226)."""
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        operator = sit(either, "exec", *flags, "shop", "--", sys.executable, "-c", PUSH)
        assert await operator.ended() == 0
        assert "pushed 0" in operator.shown and "/dev/tty No such device or address" in operator.shown
        assert operator.waiting_input() == b""


async def test_with_a_terminal_of_its_own_it_cannot_reach_the_operators_either(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        operator = sit(either, "exec", "-it", "shop", "--", sys.executable, "-c", PUSH)
        await operator.ended()
        assert operator.waiting_input() == b""


async def test_input_is_passed_on_only_when_asked_for(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        assert await run_quietly(either, "exec", "shop", "--", "cat", stdin="text") == (0, "", "")
        assert await run_quietly(either, "exec", "-i", "shop", "--", "cat", stdin="text") == (0, "text", "")
        code, out, _ = await run_quietly(either, "exec", "-it", "shop", "--", "cat", stdin="text\n")
        assert (code, out) == (0, "text\ntext\n")


async def test_the_streams_of_a_plain_one_stay_apart_although_both_are_the_operators_terminal(
    either: World, sit: Sit
) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        operator = sit(either, "exec", "-i", "shop", "--", "sh", "-c", "test -t 1 || echo none; read x; echo $x >&2")
        await operator.sees("none")
        operator.type(b"typed\n")
        assert await operator.ended() == 0
        assert operator.shown.endswith("typed\r\ntyped\r\n") and operator.is_as_before


@pytest.mark.root
@pytest.mark.cgroup
async def test_in_a_container_with_a_root_file_system_it_is_on_that_ones_devpts(
    world: World, sit: Sit, tree: Path
) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", rootfs=str(tree), command=["/bin/sleep", "1000"])
        operator = sit(world, "exec", "-it", "shop", "--", "sh", "-c", "tty; echo /dev/pts/*; echo ctty >/dev/tty")
        assert await operator.ended() == 0
        assert operator.shown == "/dev/pts/0\r\n/dev/pts/0 /dev/pts/ptmx\r\nctty\r\n"


def test_this_kernel_would_allow_it() -> None:
    """Else the tests of TIOCSTI would pass for the wrong reason."""
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, 0x5412, b"x")
    finally:
        os.close(master)
        os.close(slave)
