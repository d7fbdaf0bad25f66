"""Who ends when memory runs out, whose limit it was, and what is said of it."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from reconciler.runtime.isolators import cgroups_mem
from reconciler.runtime.kernel import cgroups
from reconciler.states import Reason
from tests import processes
from tests.integration.runtime.world import SECONDS, World

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.vm]

HOG = ["tail", "/dev/zero"]
SLEEP = ["sleep", "1000"]


@pytest.mark.parametrize(
    ("around", "own", "says"),
    [
        ("64Mi", {"limits": {"memory": "24Mi"}}, "24Mi of the limit of 24Mi used"),
        ("64Mi", {"limits": {"memory": "4Gi"}}, "64Mi of the limit of 64Mi used (of shop, around it)"),
    ],
    ids=["its own limit", "the limit around it"],
)
async def test_what_is_nested_ends_alone_and_is_the_one_of_whom_it_is_said(
    world: World, around: str, own: dict[str, object], says: str
) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, resources={"limits": {"memory": around}})
        await agent.launch("shop.quiet", command=SLEEP)
        others = [await agent.payload(name) for name in ("shop", "shop.quiet")]
        await agent.launch("shop.hog", command=HOG, resources=own)
        ended = await agent.ended("shop.hog")
        assert (ended.reason, ended.oom_killed) == (Reason.OUT_OF_MEMORY, True)
        assert says in ended.message, ended.message
        assert all(processes.alive(pid) for pid in others)
        for name in ("shop", "shop.quiet"):
            assert (await agent.containerizer.usage(name) or {})["memory_oom_kills"] == 0


async def test_a_process_that_is_not_the_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On v1 the kernel ends it alone, and the container goes on and says so; on v2 its processes end together."""
    monkeypatch.setattr(cgroups_mem, "WATCH_SECONDS", 0.05)
    hierarchy = cgroups.read_map().hierarchy_of("memory")
    assert hierarchy is not None
    async with world.agent() as agent:
        limits = {"limits": {"memory": "24Mi"}}
        await agent.launch("job", shell="tail /dev/zero; echo after; exec sleep 1000", resources=limits)
        if hierarchy.version == 2:
            ended = await agent.ended("job")
            assert (ended.reason, ended.oom_killed) == (Reason.OUT_OF_MEMORY, True)
            assert "after" not in agent.output("job")
            return
        await agent.says("job", "after")
        assert (await agent.containerizer.usage("job") or {})["memory_oom_kills"] == 1
        said = "the kernel killed a process for want of memory: at most 24Mi of the limit of 24Mi used"
        deadline = time.monotonic() + SECONDS
        while (await agent.status("job")).limitations.get("cgroups/mem") != said:
            assert time.monotonic() < deadline, "it is said"
            await asyncio.sleep(0.01)
        await agent.containerizer.kill("job", signal.SIGTERM)
        ended = await agent.ended("job")
        assert (ended.signal, ended.oom_killed) == (signal.SIGTERM, True)
