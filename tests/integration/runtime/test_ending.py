"""Taking containers away: signals, grace, trees, and what cannot be killed at first."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time

import pytest

from reconciler.errors import Retryable
from reconciler.states import ContainerState, Reason
from tests import processes
from tests.integration.runtime.isolators import Failing, Slow
from tests.integration.runtime.world import World, until

SLEEP = ["/bin/sleep", "1000"]
STUBBORN = "trap '' TERM INT HUP; echo ready; while :; do sleep 0.05; done"


async def test_the_kill_signal_of_the_spec_comes_first(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch(
            "job",
            shell="trap 'echo bye; exit 5' INT; echo ready; while :; do sleep 0.01; done",
            killPolicy={"signal": "SIGINT", "gracePeriod": "20s"},
        )
        await agent.says("job", "ready")
        ended = await agent.destroy("job", grace=None)
        assert ended is not None and (ended.code, agent.output("job")) == (5, "ready\nbye\n")


@pytest.mark.vm
async def test_whoever_ignores_it_is_killed_after_the_grace(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("job", shell=STUBBORN, killPolicy={"gracePeriod": "300ms"})
        await agent.says("job", "ready")
        begun = time.monotonic()
        ended = await agent.destroy("job", grace=None)
        assert 0.3 <= time.monotonic() - begun < 3
        assert ended is not None and (ended.code, ended.signal) == (None, signal.SIGKILL)


async def test_destroying_is_visible_and_may_be_asked_for_by_many(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("job", shell=STUBBORN)
        await agent.says("job", "ready")
        asked = [asyncio.create_task(agent.destroy("job", grace=0.2)) for _ in range(5)]
        waiting = asyncio.create_task(agent.ended("job"))
        await asyncio.sleep(0)
        assert (await agent.status("job")).state is ContainerState.DESTROYING
        endings = [await task for task in asked]
        assert {ending and ending.signal for ending in endings} <= {signal.SIGKILL, None}
        assert (await waiting).signal == signal.SIGKILL and agent.containerizer.containers() == []


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.vm
async def test_a_stopped_and_a_frozen_container_are_killed(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("stopped", command=SLEEP)
        await agent.launch("frozen", command=SLEEP)
        os.kill(await agent.payload("stopped"), signal.SIGSTOP)
        os.kill(await agent.pid("stopped"), signal.SIGSTOP)
        for path in world.cgroup_dirs():
            for file, word in (("cgroup.freeze", "1"), ("freezer.state", "FROZEN")):
                if path.name == "frozen" and (path / file).exists():
                    (path / file).write_text(word)
        endings = [await agent.destroy(name, grace=0.1) for name in ("stopped", "frozen")]
        assert [ending and ending.signal for ending in endings] == [signal.SIGKILL] * 2


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.vm
async def test_a_fork_storm_is_outrun(world: World) -> None:
    storm = "f() { sleep 0.01 & f & }; echo ready; while :; do f 2>/dev/null; sleep 0.02; done"
    async with world.agent() as agent:
        await agent.launch("job", shell=storm, resources={"limits": {"pids": 60}})
        await agent.says("job", "ready")
        await agent.destroy("job")
        assert agent.containerizer.containers() == []


@pytest.mark.vm
async def test_a_tree_is_destroyed_with_its_root(either: World) -> None:
    names = ["shop", "shop.web", "shop.web.log", "shop.db"]
    async with either.agent() as agent:
        for name in names:
            await agent.launch(name, command=SLEEP)
        pids = [await agent.pid(name) for name in names]
        ended = await agent.destroy("shop", grace=5)
        assert ended is not None and ended.signal == signal.SIGTERM, "each was asked before it was killed"
        assert agent.containerizer.containers() == [] and not any(processes.alive(pid) for pid in pids)


async def test_a_nested_containers_end_leaves_its_parent_and_siblings(either: World) -> None:
    async with either.agent() as agent:
        for name in ("shop", "shop.web", "shop.db"):
            await agent.launch(name, command=SLEEP)
        os.kill(await agent.payload("shop.web"), signal.SIGTERM)
        assert (await agent.ended("shop.web")).reason is Reason.SIGNALED
        await agent.destroy("shop.web")
        assert agent.containerizer.containers() == ["shop", "shop.db"]
        assert (await agent.status("shop")).running and (await agent.status("shop.db")).running
        await agent.launch("shop.web", command=SLEEP)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_parents_end_ends_what_is_nested_in_it(either: World, number: int) -> None:
    async with either.agent() as agent:
        for name in ("shop", "shop.web", "shop.web.log"):
            await agent.launch(name, command=SLEEP)
        target = await agent.pid("shop") if number == signal.SIGKILL else await agent.payload("shop")
        os.kill(target, number)
        assert (await agent.ended("shop")).reason is Reason.SIGNALED
        endings = [await agent.ended(name) for name in ("shop.web", "shop.web.log")]
        assert [ending.reason for ending in endings] == [Reason.PARENT_ENDED] * 2
        assert agent.containerizer.containers() == ["shop", "shop.web", "shop.web.log"], "kept until destroyed"


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.vm
async def test_one_stuck_child_keeps_neither_its_siblings_nor_its_parents_processes_alive(world: World) -> None:
    slow = Slow("cleanup", only="shop.stuck")
    async with world.agent([slow]) as agent:
        for name in ("shop", "shop.web", "shop.stuck"):
            await agent.launch(name, command=SLEEP)
        web, stuck = await agent.pid("shop.web"), await agent.pid("shop.stuck")
        destroying = asyncio.create_task(agent.destroy("shop"))
        await until("it is stuck", slow.reached.is_set)
        await until("both are dead", lambda: not processes.alive(web) and not processes.alive(stuck))
        slow.go.set()
        await destroying
        assert agent.containerizer.containers() == []


async def test_a_clean_up_that_is_stuck_is_named_and_tried_again_by_itself(either: World) -> None:
    stuck = Failing("cleanup", OSError(errno.EBUSY, "remove cgroup: pid 123 (state D)", "/some/cgroup"))
    async with either.agent([stuck]) as agent:
        await agent.launch("job", shell="exit 3")
        await until("its end was noticed", lambda: either.checkpoint("job").termination)
        await until("and cleaned up after", lambda: either.notified.count("job") >= 3)
        status = await agent.status("job")
        assert status.termination is not None and status.termination.code == 3
        assert "pid 123 (state D), EBUSY (/some/cgroup)" in status.message
        stuck.error = None
        await agent.ended("job")
        assert stuck.undone == 1 and (await agent.status("job")).message == ""


async def test_nothing_is_nested_in_what_is_being_destroyed(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        await agent.launch("shop.slow", shell=STUBBORN)
        await agent.says("shop.slow", "ready")
        destroying = asyncio.create_task(agent.destroy("shop", grace=0.5))
        await asyncio.sleep(0)
        with pytest.raises(Retryable, match="not running"):
            await agent.launch("shop.late", command=SLEEP)
        await destroying
        assert agent.containerizer.containers() == []


async def test_a_launch_follows_a_destroy_at_once_many_times(either: World) -> None:
    async with either.agent() as agent:
        for number in range(10):
            assert await agent.run("job", shell=f"echo {number}; exit {number}") == [str(number)]
            ended = await agent.destroy("job")
            assert ended is not None and ended.code == number
