"""A container with an open standard input and no terminal."""

from __future__ import annotations

from typing import Any

from reconciler.runtime.launcher import pump
from tests.integration.runtime.world import World, until
from tests.integration.terminal.operator import Line, is_refused, run_quietly

STDIN: dict[str, Any] = {"stdin": True, "restartPolicy": "Never"}


async def test_the_input_stays_open_when_its_writer_leaves_and_ends_when_told(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell="cat; echo over", **STDIN)
        for text in (b"one\n", b"two\n"):
            with Line(either, "shop") as line:
                line.send(pump.INPUT, text)
                await line.hears(text)
            await until("the input is free again", lambda: not is_refused(either, "shop", "writer"))
        with Line(either, "shop") as line:
            line.send(pump.END)
            await line.hears(b"over\n")
            await line.hears_the_end()
        assert (await agent.ended("shop")).success
        assert agent.output("shop") == "one\ntwo\nover\n"


async def test_stdout_and_stderr_stay_apart_in_the_log_and_for_readers(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell="read x; test -t 0 || echo out; echo err >&2", **STDIN)
        with Line(either, "shop") as line:
            line.send(pump.INPUT, b"go\n")
            await line.hears(b"err\n", pump.STDERR)
            await line.hears(b"out\n")
        await agent.ended("shop")
        assert (agent.output("shop"), agent.output("shop", "stderr")) == ("out\n", "err\n")


async def test_all_that_was_sent_arrives_before_the_end_of_the_input(either: World) -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    async with either.agent() as agent:
        await agent.launch("shop", shell="sleep 0.2; wc -c", **STDIN)
        code, out, said = await run_quietly(either, "attach", "shop", stdin=text)
        assert (code, out.strip()) == (0, str(len(text))), said


async def test_a_payload_that_closes_its_input_is_not_written_to_and_goes_on(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell="exec <&-; echo closed; sleep 1000", **STDIN)
        await agent.says("shop", "closed")
        with Line(either, "shop") as line:
            for _ in range(3):
                line.send(pump.INPUT, b"to nobody\n")
        assert (await agent.status("shop")).running


async def test_bytes_pass_as_they_are(either: World) -> None:
    every = bytes(range(256)) * 300
    async with either.agent() as agent:
        await agent.launch("shop", shell=f"head -c {len(every)}", **STDIN)
        with Line(either, "shop") as line:
            for start in range(0, len(every), 30_000):
                line.send(pump.INPUT, every[start : start + 30_000])
            await until("all came back", lambda: line.listen()[pump.STDOUT] == every)
        await agent.ended("shop")
        assert (either.logs("shop") / "stdout").read_bytes() == every
