"""A container with a terminal, and who is attached to it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.launcher import pump
from tests import processes
from tests.integration.runtime.world import World, until
from tests.integration.terminal.conftest import Sit
from tests.integration.terminal.operator import (
    CTRL_C,
    DETACH,
    Line,
    descriptors,
    directory,
    is_refused,
    pump_of,
    pumps,
    run_quietly,
)

TTY: dict[str, Any] = {"tty": True, "restartPolicy": "Never"}
ECHO = "while read line; do echo got:$line; done"


async def test_the_payload_has_a_controlling_terminal_of_its_own(either: World) -> None:
    script = "for fd in 0 1 2; do test -t $fd && echo tty$fd; done; stty size; echo $TERM; echo ctty >/dev/tty"
    async with either.agent() as agent:
        lines = await agent.run("shop", shell=script, **TTY)
        assert lines == ["tty0", "tty1", "tty2", "24 80", "xterm", "ctty"]


async def test_without_an_init_it_has_one_too(either: World) -> None:
    async with either.agent() as agent:
        assert await agent.run("shop", shell="tty -s && echo ctty >/dev/tty", init=False, **TTY) == ["ctty"]


async def test_a_container_without_one_has_none_at_all(either: World) -> None:
    async with either.agent() as agent:
        await agent.run("shop", shell=": </dev/tty", restartPolicy="Never")
        assert "No such device or address" in agent.output("shop", "stderr")


@pytest.mark.root
@pytest.mark.cgroup
async def test_the_terminal_belongs_to_the_containers_user(world: World) -> None:
    async with world.agent() as agent:
        lines = await agent.run("shop", shell='stat -c %u "$(tty)"; : </dev/tty && echo open', user="65534:12", **TTY)
        assert lines == ["65534", "open"]


@pytest.mark.root
@pytest.mark.cgroup
async def test_with_a_root_file_system_it_is_of_the_containers_own_devpts(world: World, tree: Path) -> None:
    async with world.agent() as agent:
        lines = await agent.run("shop", rootfs=str(tree), shell="tty; echo /dev/pts/*; echo ctty >/dev/tty", **TTY)
        assert lines == ["/dev/pts/0", "/dev/pts/0 /dev/pts/ptmx", "ctty"]


async def test_its_size_follows_the_operators_window(either: World, sit: Sit) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    async with either.agent() as agent:
        await agent.launch("shop", shell=script, **TTY)
        await agent.says("shop", "ready")
        operator = sit(either, "attach", "shop", rows=31, columns=101)
        await operator.sees("31 101")
        operator.resize(40, 90)
        await operator.sees("40 90")


async def test_ctrl_c_interrupts_what_is_in_the_foreground(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell="trap 'echo interrupted' INT; echo ready; while :; do sleep 0.05; done", **TTY)
        operator = sit(either, "attach", "shop")
        await until("it is raw", lambda: operator.is_raw)
        await agent.says("shop", "ready")
        operator.type(CTRL_C)
        await operator.sees("interrupted")
        assert (await agent.status("shop")).running and operator.process.poll() is None


async def test_the_detach_keys_leave_the_container_and_give_the_terminal_back(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell=ECHO, **TTY)
        operator = sit(either, "attach", "shop")
        await until("it is raw", lambda: operator.is_raw)
        operator.type(b"a\x10b\n")
        await operator.sees("got:a")
        operator.type(DETACH)
        assert await operator.ended() == 0
        assert operator.is_as_before and "shop: detached" in operator.shown
        assert (await agent.status("shop")).running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_signal_that_ends_attach_gives_the_terminal_back(either: World, sit: Sit, number: int) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell=ECHO, **TTY)
        operator = sit(either, "attach", "shop")
        await until("it is raw", lambda: operator.is_raw)
        os.kill(operator.pid, number)
        assert await operator.ended() == 128 + number
        assert operator.is_as_before and (await agent.status("shop")).running


async def test_the_containers_end_ends_attach_after_its_last_output(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell="read x; seq 2000; echo last", **TTY)
        operator = sit(either, "attach", "shop")
        await until("it is raw", lambda: operator.is_raw)
        operator.type(b"\r")
        assert await operator.ended() == 0
        assert "2000\r\nlast\r\n" in operator.shown and "the container has ended" in operator.shown
        await agent.ended("shop")
        assert agent.output("shop").splitlines()[-2:] == ["2000", "last"]


async def test_two_readers_and_the_writer_all_get_the_output_and_a_second_writer_is_refused(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell=ECHO, **TTY)
        with (
            Line(either, "shop") as writer,
            Line(either, "shop", "reader") as one,
            Line(either, "shop", "reader") as two,
        ):
            assert f"process {os.getpid()} has its input already" in is_refused(either, "shop", "writer")
            writer.send(pump.INPUT, b"hello\n")
            for line in (writer, one, two):
                await line.hears(b"got:hello\r\n")
            one.send(pump.INPUT, b"not by a reader\n")
            writer.send(pump.INPUT, b"again\n")
            await two.hears(b"got:again\r\n")
            assert b"reader" not in two.heard[pump.STDOUT]
        await until("the next writer is let in", lambda: not is_refused(either, "shop", "writer"))


async def test_the_command_says_who_has_the_input(either: World, sit: Sit) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell=ECHO, **TTY)
        with Line(either, "shop"):
            code, _, said = await run_quietly(either, "attach", "shop")
            assert code == 1 and "has its input already; --no-stdin only watches" in said
            watcher = sit(either, "attach", "--no-stdin", "shop")
            await until("it watches", lambda: descriptors(pumps(either)[0]) >= 7)
            assert not watcher.is_raw


async def test_what_has_neither_terminal_nor_input_cannot_be_attached_to(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell="sleep 1000")
        code, _, said = await run_quietly(either, "attach", "shop")
        assert code == 1 and "has neither a terminal nor an open standard input: set spec.tty" in said
        assert (await run_quietly(either, "attach", "nowhere"))[0] == 4


async def test_a_reader_that_does_not_read_is_dropped_and_holds_nobody_up(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell="read x; seq 1000000; echo last; read x", **TTY)
        with Line(either, "shop", "reader") as stalled:
            with Line(either, "shop") as writer:
                writer.send(pump.INPUT, b"\n")
            log = either.logs("shop") / "stdout"
            await until("all is in the log", lambda: log.read_bytes()[-8:].endswith(b"last\r\n"), 20)
            assert log.stat().st_size > 7_000_000
            await until("it was dropped", lambda: bool(stalled.listen()) and stalled.lost)
            assert b"last" not in stalled.heard[pump.STDOUT]


async def test_a_hundred_attachments_leave_descriptors_and_processes_as_they_were(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell=ECHO, **TTY)
        mover = await pump_of(either)
        both = (mover, either.keeper())
        before = [descriptors(pid) for pid in both]
        for number in range(100):
            with Line(either, "shop", "writer" if number % 2 else "reader") as line:
                line.resize(20, 20) if number % 2 else None
            await until("it let go", lambda: descriptors(mover) == before[0])
        assert [descriptors(pid) for pid in both] == before and pumps(either) == [mover]


async def test_the_pump_ends_with_its_container_and_leaves_no_socket(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell=ECHO, **TTY)
        mover = await pump_of(either)
        await until("it listens", lambda: (directory(either, "shop") / pump.SOCKET).exists())
        await agent.destroy("shop")
        await until("the pump is gone", lambda: not processes.alive(mover), 1)
        assert not directory(either, "shop").exists()


async def test_a_command_that_cannot_be_run_leaves_no_pump(either: World) -> None:
    async with either.agent() as agent:
        for spec in (TTY, {"stdin": True}):
            with pytest.raises(Exception, match="no/such"):
                await agent.launch("shop", command=["/no/such"], **spec)
            await until("there is no pump", lambda: not pumps(either), 1)
            await agent.destroy("shop")
