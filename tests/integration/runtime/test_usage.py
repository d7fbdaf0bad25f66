"""What containers use: figures that their processes really caused, nested ones included, with an agent and without."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from typing import Any

import pytest

from reconciler.runtime.build import sample
from reconciler.runtime.containerizer import Usage
from tests.integration.runtime.world import SECONDS, Agent, World
from tests.integration.terminal.operator import CHECKOUT, COMMAND

SLEEP = ["/bin/sleep", "1000"]
SPIN = "while :; do :; done"
HOLD = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); while :; do sleep 1; done"
MIB = 1 << 20


async def usage(agent: Agent, name: str) -> Usage:
    found = await agent.containerizer.usage(name)
    assert found is not None
    return found


async def grown(agent: Agent, name: str, figure: str, least: float) -> Usage:
    """Once that figure is at least so much."""
    deadline = time.monotonic() + SECONDS
    while ((found := await usage(agent, name))[figure] or 0) < least:
        assert time.monotonic() < deadline, f"{figure} of {name} is {found[figure]}"
        await asyncio.sleep(0.01)
    return found


def stats(world: World, *argv: str) -> Any:
    where = ["--root", str(world.root), "--runtime-dir", str(world.run)]
    done = subprocess.run(
        [*COMMAND, "stats", *where, "-o", "json", *argv], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    return {row["name"]: row for row in json.loads(done.stdout)}


async def test_a_container_uses_what_its_processes_and_those_nested_in_it_do(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        idle = await usage(agent, "shop")
        await agent.launch("shop.web", shell=HOLD)
        await agent.launch("shop.job", shell=SPIN)
        await agent.launch("other", command=SLEEP)
        assert (await grown(agent, "shop.web", "memory_bytes", 38 * MIB))["memory_bytes"] is not None
        above = await grown(agent, "shop", "memory_bytes", 38 * MIB)
        spun = await grown(agent, "shop.job", "cpu_seconds", 0.3)
        assert ((await usage(agent, "shop"))["cpu_seconds"] or 0) >= (spun["cpu_seconds"] or 0)
        other = await usage(agent, "other")
        assert (other["cpu_seconds"] or 0) < 0.3 and (other["memory_bytes"] or 0) < 38 * MIB
        assert other["pids"] == idle["pids"] == 2 and (above["pids"] or 0) >= 6, "an init and a payload each"
        assert await agent.containerizer.usage("nobody") is None
        await agent.destroy("shop")
        assert await agent.containerizer.usage("shop") is None


async def test_it_is_read_without_an_agent(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("job", shell=SPIN)
        await agent.launch("job.idle", command=SLEEP)
        await agent.run("over", shell="exit 0")
    rows = stats(either)
    assert list(rows) == ["job", "job.idle"]
    assert rows["job"]["cpuPercent"] > 2 * rows["job.idle"]["cpuPercent"]
    assert rows["job"]["cpuSeconds"] > 0 and rows["job"]["memoryBytes"] > 0 and rows["job"]["pids"] == 4
    assert not stats(either, "over")["over"]["running"]


@pytest.mark.root
@pytest.mark.cgroup
async def test_limits_and_throttling_are_told(world: World) -> None:
    limits = {"cpus": 0.1, "memory": "64Mi", "pids": 20}
    async with world.agent() as agent:
        await agent.launch("job", shell=SPIN, resources={"limits": limits})
        found = await grown(agent, "job", "cpu_throttled_periods", 3)
        assert (found["cpu_limit"], found["memory_limit_bytes"], found["pids_limit"]) == (0.1, 64 * MIB, 20)
        assert (found["cpu_throttled_seconds"] or 0) > 0
        assert sample(world.base, world.run, "", {"job"})["job"].usage["pids_limit"] == 20


async def test_time_of_processes_that_have_ended_counts_where_no_cgroup_does(posix: World) -> None:
    burn = f"timeout 0.4 sh -c '{SPIN}'; exec sleep 1000"
    async with posix.agent() as agent:
        await agent.launch("job", shell=burn)
        await grown(agent, "job", "cpu_seconds", 0.2)
        before = await usage(agent, "job")
        deadline = time.monotonic() + SECONDS
        while (found := await usage(agent, "job"))["pids"] != 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert (found["cpu_seconds"] or 0) >= (before["cpu_seconds"] or 0)
