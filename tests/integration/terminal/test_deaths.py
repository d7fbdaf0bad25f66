"""Who may die without the container losing its terminal: the agent, the pump, the keeper."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from reconciler.runtime.launcher import connection, pump
from tests import processes
from tests.integration.runtime.world import World, until
from tests.integration.terminal.operator import CHECKOUT, COMMAND, Line, pump_of, pumps

ECHO = "while read line; do echo got:$line; done"
SPEC = """
apiVersion: reconciler/v1
kind: Container
metadata: {name: shop}
spec: {tty: true, shell: "while read line; do echo got:$line; done"}
"""


async def answers(world: World, name: str, text: bytes) -> None:
    with Line(world, name) as line:
        line.send(pump.INPUT, text + b"\n")
        await line.hears(b"got:" + text)


async def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await until("it is dead", lambda: not processes.alive(pid))


async def test_a_pump_that_is_killed_is_replaced_and_nothing_is_lost_to_the_container(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell=ECHO, tty=True)
        await agent.launch("cat", command=["/bin/cat"], stdin=True)
        pids = [await agent.pid(name) for name in ("shop", "cat")]
        for round in range(2):
            await until("there are two", lambda: len(pumps(either)) == 2)
            for mover in pumps(either):
                await kill(mover)
            await answers(either, "shop", b"round%d" % round)
        with Line(either, "cat") as line:
            line.send(pump.INPUT, b"still open\n")
            await line.hears(b"still open\n")
        assert [await agent.pid(name) for name in ("shop", "cat")] == pids


async def test_an_agent_that_is_killed_takes_no_terminal_along(either: World, base: Path) -> None:
    (base / "specs").mkdir()
    (base / "specs" / "shop.yaml").write_text(SPEC)
    where = ["--root", str(either.root), "--runtime-dir", str(either.run)]
    flags = ["--launcher", either.launcher or "linux", "--cgroups-root", World.CGROUPS]
    agent = start("run", *where, *flags, str(base / "specs"))
    try:
        mover = await pump_of(either)
        with Line(either, "shop") as line:
            line.send(pump.INPUT, b"before\n")
            await line.hears(b"got:before")
            agent.kill()
            agent.wait()
            line.send(pump.INPUT, b"during\n")
            await line.hears(b"got:during")
        await answers(either, "shop", b"after")
        assert pumps(either) == [mover]
    finally:
        agent.kill()
        agent.wait()
        assert start("destroy", *where, "--all").wait(20) == 0


async def test_a_killed_keeper_leaves_the_pump_at_work_and_its_successor_holds_the_terminal_too(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell=ECHO, tty=True)
        mover = await pump_of(either)
        await answers(either, "shop", b"one")
        old = await either.kill_keeper()
        await answers(either, "shop", b"two")
        await either.next_keeper(old)
        await until("it holds the terminal", lambda: holds_terminal(either.keeper()))
        await kill(mover)
        await answers(either, "shop", b"three")
        assert (await agent.status("shop")).running


async def test_an_input_that_was_ended_stays_so_for_the_next_keeper(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell="cat; echo ended; sleep 1000", stdin=True)
        old = await either.kill_keeper()
        await either.next_keeper(old)
        keeper = await until("it holds the pipes", lambda: pipes(either.keeper()) >= 3 and either.keeper())
        with Line(either, "shop") as line:
            line.send(pump.END)
            await line.hears(b"ended\n")
        await until("it let go of the input", lambda: pipes(keeper) == 2)


async def test_a_keeper_that_goes_while_it_is_greeted_is_no_second_loss(
    either: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two tasks would hand each container to the next one, which would hold its input twice and never let go."""
    gone, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other.close()
    going, real = list[socket.socket](), connection.connect
    monkeypatch.setattr(connection, "connect", lambda *told, **how: going.pop() if going else real(*told, **how))
    async with either.agent() as agent:
        await agent.launch("shop", shell="cat; echo ended; sleep 1000", stdin=True)
        going.append(gone)
        await either.next_keeper(await either.kill_keeper())
        await until("it holds the pipes", lambda: pipes(either.keeper()) >= 3)
        assert not going
        with Line(either, "shop") as line:
            line.send(pump.END)
            await line.hears(b"ended\n")


async def test_keeper_and_pump_killed_at_once_hang_the_terminal_up(either: World) -> None:
    """Nobody holds its other end any more; that is what a terminal tells its session then."""
    async with either.agent() as agent:
        await agent.launch("shop", shell="trap 'exit 42' HUP; while :; do sleep 0.05; done", tty=True)
        mover = await pump_of(either)
        os.kill(mover, signal.SIGSTOP)  # lest it is replaced in between
        await either.kill_keeper()
        os.kill(mover, signal.SIGKILL)
        assert (await agent.ended("shop")).code == 42


def start(*argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *argv], cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def holds_terminal(pid: int) -> bool:
    return any(target.endswith("/ptmx") for target in targets(pid))


def pipes(pid: int) -> int:
    """Ends it holds, but for its own to be woken by."""
    return sum(target.startswith("pipe:") for target in targets(pid)) - 2


def targets(pid: int) -> list[str]:
    try:
        return [str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in processes.names(f"/proc/{pid}/fd")]
    except OSError:
        return []
