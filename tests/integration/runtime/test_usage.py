"""What containers use: figures that their processes really caused, nested ones included, with an agent and without."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.build import sample
from reconciler.runtime.containerizer import Usage
from reconciler.runtime.kernel import cgroups
from reconciler.runtime.mesos.checkpoint import Checkpoints
from reconciler.spec.model import ResourceAmounts
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
@pytest.mark.vm
async def test_the_figures_are_those_of_the_kernel_s_own_files(world: World) -> None:
    limits = {"cpus": 0.1, "memory": "64Mi", "pids": 20}
    async with world.agent() as agent:
        await agent.launch("job", command=SLEEP, resources={"limits": limits})
        await agent.launch("job.burst", shell=f"dd if=/dev/zero of=file bs=64k count=4 conv=fsync; {SPIN}")
        await grown(agent, "job", "cpu_throttled_periods", 3)
        await agent.destroy("job.burst")
        kernel = Kernel((await agent.status("job")).cgroups)
        # on v1 what a nested cgroup wrote goes with it, when the kernel gets to that
        found, deadline = await usage(agent, "job"), time.monotonic() + SECONDS
        while (wrong := kernel.differing(found)) and time.monotonic() < deadline:
            found = await usage(agent, "job")
        assert not wrong, wrong
        assert (found["cpu_limit"], found["memory_limit_bytes"], found["pids_limit"]) == (0.1, 64 * MIB, 20)
        assert (found["cpu_throttled_seconds"] or 0) > 0
        assert sample(world.base, world.run, "", {"job"})["job"].usage["pids_limit"] == 20


class Kernel:
    """A container's files, read and added up by the documentation of each version."""

    def __init__(self, directories: Mapping[str, str]) -> None:
        self.map, self.directories = cgroups.read_map(), directories

    def text(self, controller: str, v1: str, v2: str) -> str | None:
        hierarchy = self.map.hierarchy_of(controller)
        if hierarchy is None:
            return None
        return Path(self.directories[hierarchy.name], v1 if hierarchy.version == 1 else v2).read_text()

    def differing(self, found: Usage) -> dict[str, tuple[object, float]]:
        """What is not as the files say at this moment: found, of the files."""
        return {
            figure: (found.get(figure), own)
            for figure, own in self.figures().items()
            if found.get(figure) != pytest.approx(own, abs=1 * MIB if figure.startswith("memory") else 1e-6)
        }

    def figures(self) -> dict[str, float]:
        """Of a container whose processes sleep."""
        used, cpu = self.text("cpuacct", "cpuacct.usage", "cpu.stat"), self.text("cpu", "cpu.stat", "cpu.stat")
        memory, stat = (self.text("memory", *files) for files in MEMORY)
        pids, io = self.text("pids", "pids.current", "pids.current"), self.text("blkio", *BLKIO)
        assert used and cpu and memory and stat and pids
        micros, nanos = keyed(cpu, "throttled_usec"), keyed(cpu, "throttled_time")
        cache = keyed(stat, "total_inactive_file") or keyed(stat, "inactive_file")
        found = {
            "cpu_seconds": int(used) / 1e9 if used.strip().isdigit() else keyed(used, "usage_usec") / 1e6,
            "cpu_throttled_periods": keyed(cpu, "nr_throttled"),
            "cpu_throttled_seconds": micros / 1e6 + nanos / 1e9,
            "memory_bytes": int(memory),
            "memory_working_set_bytes": int(memory) - cache,
            "pids": int(pids),
        }
        if io is not None:
            found["io_written_bytes"] = sum(map(int, re.findall(r"(?:Write |wbytes=)(\d+)", io)))
        if (pressure := Path(self.directories.get("unified", "/nowhere"), "cpu.pressure")).exists():
            found["pressure.cpu.some_seconds"] = int(pressure.read_text().splitlines()[0].rpartition("=")[2]) / 1e6
        return found


def keyed(text: str, key: str) -> int:
    return int(dict(line.split() for line in text.splitlines()).get(key, 0))


MEMORY = (("memory.usage_in_bytes", "memory.current"), ("memory.stat", "memory.stat"))
BLKIO = ("blkio.throttle.io_service_bytes_recursive", "io.stat")


@pytest.mark.root
@pytest.mark.cgroup
async def test_what_an_earlier_release_launched_is_counted_and_limited_where_that_had_no_cgroup(world: World) -> None:
    hierarchy = cgroups.read_map().hierarchy_of("blkio")
    disks = [path.read_text().strip() for path in Path("/sys/block").glob("*/dev")]
    if hierarchy is None or hierarchy.version == 2 or not disks:
        pytest.skip("no hierarchy blkio of its own, or no disk")
    async with world.agent() as agent:
        await agent.launch("old", command=SLEEP)
    checkpoints = Checkpoints(world.run)
    run = checkpoints.read("old")
    assert run is not None
    for pid in cgroups.pids_below(run.cgroups["blkio"]):
        cgroups.write(hierarchy.mount, "cgroup.procs", pid)
    Path(run.cgroups["blkio"]).rmdir()
    checkpoints.write(replace(run, cgroups={name: at for name, at in run.cgroups.items() if name != "blkio"}))
    async with world.agent() as agent:
        before = await usage(agent, "old")
        assert "io_reads" not in before and before["strays"] == 2
        limits = ResourceAmounts.model_validate({"io": {disks[0]: {"readBps": MIB}}})
        await agent.containerizer.update("old", ResourceAmounts(), limits)
        after = await usage(agent, "old")
        assert (after["io_reads"], after[f"io.{disks[0]}.read_bps_limit"], after["strays"]) == (0, MIB, 0)
    async with world.agent() as agent:
        assert (await usage(agent, "old"))["io_reads"] == 0, "and is so for the next agent"


async def test_time_of_processes_that_have_ended_counts_where_no_cgroup_does(posix: World) -> None:
    burn = f"sh -c 'ulimit -t 1; {SPIN}'; exec sleep 1000"
    async with posix.agent() as agent:
        await agent.launch("job", shell=burn)
        await grown(agent, "job", "cpu_seconds", 0.2)
        before = await usage(agent, "job")
        deadline = time.monotonic() + SECONDS
        while (found := await usage(agent, "job"))["pids"] != 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert (found["cpu_seconds"] or 0) >= (before["cpu_seconds"] or 0)
