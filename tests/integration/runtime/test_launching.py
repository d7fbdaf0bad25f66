"""Bringing containers up: what a launch answers, and that one which fails or is given up leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import LaunchFailed, ParentEnded, ReconcilerError, Retryable, Terminal, Unsupported
from reconciler.runtime.containerizer import LaunchResult
from reconciler.runtime.isolators.isolator import Context, PassiveIsolator
from reconciler.runtime.kernel import proc
from reconciler.spec.model import ResourceAmounts
from reconciler.states import ContainerState, Reason
from tests import processes
from tests.integration.runtime.isolators import Failing, Slow
from tests.integration.runtime.world import Agent, World, until, wait_for

SLEEP = ["/bin/sleep", "1000"]


def nothing_is_left(agent: Agent, name: str) -> None:
    world = agent.world
    assert name not in agent.containerizer.containers()
    assert not (world.run / "containers" / name).exists()
    assert [path for path in world.cgroup_dirs() if path.name == name] == []
    below = processes.below(world.keeper())
    assert [each for each in below if name in " ".join(processes.cmdline(each.pid))] == []


async def test_a_launch_answers_once_the_payload_runs(either: World) -> None:
    async with either.agent() as agent:
        assert await agent.containerizer.launch(either.config("job", command=SLEEP)) is LaunchResult.LAUNCHED
        status = await agent.status("job")
        assert (status.state, status.containerizer) == (ContainerState.RUNNING, "mesos")
        assert status.pid is not None and status.started_at is not None and status.termination is None
        assert processes.cmdline(await agent.payload("job")) == tuple(SLEEP)
        assert await agent.containerizer.launch(either.config("job", command=SLEEP)) is LaunchResult.ALREADY_LAUNCHED
        assert either.notified.count("job") >= 1


async def test_a_docker_container_is_not_for_it(posix: World) -> None:
    async with posix.agent() as agent:
        config = posix.config("job", type="docker", image={"reference": "busybox"})
        assert await agent.containerizer.launch(config) is LaunchResult.NOT_SUPPORTED
        assert agent.containerizer.containers() == []


@pytest.mark.vm
async def test_a_whole_life(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("job", shell="echo out; echo err >&2; exit 3")
        ended = await agent.ended("job")
        assert (ended.code, ended.signal, ended.reason) == (3, None, Reason.EXITED)
        assert (agent.output("job"), agent.output("job", "stderr")) == ("out\n", "err\n")
        status = await agent.status("job")
        assert (status.state, status.pid, status.termination) == (None, None, ended)
        assert await agent.destroy("job") == ended
        nothing_is_left(agent, "job")
        assert await agent.containerizer.status("job") is None
        assert await agent.containerizer.wait("job") is None
        assert not await agent.containerizer.kill("job", signal.SIGTERM)
        assert await agent.destroy("job") is None


async def test_the_last_runs_output_is_kept_beside_the_new(either: World) -> None:
    async with either.agent() as agent:
        for text in ("one", "two", "three"):
            assert await agent.run("job", shell=f"echo {text}") == [text]
            await agent.destroy("job")
    assert (either.logs("job") / "previous" / "stdout").read_text() == "two\n"


@pytest.mark.parametrize(
    ("spec", "code", "said"),
    [
        ({"command": ["/no/such"]}, 127, "exec /no/such: No such file"),
        ({"command": ["no-such-command"]}, 127, "no-such-command"),
        ({"command": ["/etc/passwd"]}, 126, "exec /etc/passwd: Permission denied"),
        ({"command": ["true"], "workingDir": "/nowhere"}, 126, "workdir /nowhere: "),
        ({"command": ["/etc/passwd/x"], "init": False}, 127, "exec /etc/passwd/x: Not a directory"),
    ],
    ids=["missing", "missing in PATH", "not executable", "no such directory", "no directory"],
)
async def test_a_command_that_cannot_be_started_is_a_run_that_failed(
    either: World, spec: dict[str, Any], code: int, said: str
) -> None:
    async with either.agent() as agent:
        with pytest.raises(LaunchFailed) as failed:
            await agent.launch("job", **spec)
        assert failed.value.code == code and said in failed.value.message
        ended = (await agent.status("job")).termination
        assert ended is not None and (ended.code, ended.reason) == (code, Reason.LAUNCH_FAILED)
        assert ended.message == failed.value.message and await agent.ended("job") == ended
        assert await agent.destroy("job") == ended
        nothing_is_left(agent, "job")


@pytest.mark.parametrize("name", ["shop.web", "shop.web.log"])
async def test_a_nested_container_needs_a_running_parent(either: World, name: str) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", shell="exit 0" if name == "shop.web" else "sleep 1000")
        if name == "shop.web":
            await agent.ended("shop")
        with pytest.raises(Retryable) as refused:
            await agent.launch(name, command=SLEEP)
        assert refused.value.reason is Reason.PARENT_NOT_RUNNING
        nothing_is_left(agent, name)


async def test_what_this_launcher_cannot_give_is_refused_before_anything_is_made(posix: World) -> None:
    async with posix.agent() as agent:
        with pytest.raises(Unsupported, match=r"pid.*memory") as refused:
            limits = {"limits": {"memory": "9Mi"}}
            await agent.launch("job", command=SLEEP, namespaces={"pid": "private"}, resources=limits)
        assert refused.value.reason is Reason.NOT_ON_THIS_LAUNCHER
        nothing_is_left(agent, "job")
        assert not posix.sandbox("job").exists()


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.vm
async def test_limits_are_in_force_before_the_payload_starts(world: World) -> None:
    show = "cat /sys/fs/cgroup/pids$(sed -n 's/.*:pids://p' /proc/self/cgroup)/pids.max"
    limits = {"pids": 17, "memory": "64Mi", "cpus": 0.5}
    async with world.agent() as agent:
        status = await agent.launch("job", command=SLEEP, resources={"limits": limits}, namespaces={"cgroup": "host"})
        directory = status.cgroups.get("pids") or status.cgroups["unified"]
        assert (Path(directory) / "pids.max").read_text().strip() == "17", show
        pid = str(await agent.payload("job"))
        for hierarchy, path in status.cgroups.items():
            leaf = Path(path) / "_leaf" if (Path(path) / "_leaf").exists() else Path(path)
            assert pid in (leaf / "cgroup.procs").read_text().split(), hierarchy
        await agent.containerizer.update("job", ResourceAmounts(), ResourceAmounts(pids=18))
        assert (Path(directory) / "pids.max").read_text().strip() == "18"


async def test_updating_what_does_not_run_is_an_error(either: World) -> None:
    async with either.agent() as agent:
        await agent.run("job", shell="exit 0")
        for name in ("job", "nobody"):
            with pytest.raises(Retryable):
                await agent.containerizer.update(name, ResourceAmounts(), ResourceAmounts())


# ---- failures half-way


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.parametrize("stage", ["prepare", "isolate"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "disk on fire"),
        Terminal("no such thing"),
        Retryable("later"),
        Unsupported("not here"),
        KeyError("bug"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_isolator_that_fails_a_launch_leaves_nothing(world: World, stage: str, error: Exception) -> None:
    failing = Failing(stage, error)
    async with world.agent([failing]) as agent:
        with pytest.raises(Retryable if isinstance(error, OSError) else type(error)) as failed:
            await agent.launch("job", shell=f"touch {world.base}/ran")
        if isinstance(error, OSError):
            assert "disk on fire" in str(failed.value) and str(stage[:-1]).upper() in str(failed.value)
        nothing_is_left(agent, "job")
        assert not (world.base / "ran").exists() and failing.undone >= 1
        failing.error = None
        assert (await agent.launch("job", command=SLEEP)).running


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.parametrize(
    "error",
    [OSError(16, "busy"), Retryable("later"), Terminal("never")],
    ids=lambda error: type(error).__name__,
)
async def test_a_clean_up_that_fails_is_said_and_repeated_until_it_succeeds(world: World, error: Exception) -> None:
    failing = Failing("cleanup", error)
    async with world.agent([failing]) as agent:
        await agent.launch("job", command=SLEEP)
        for _ in range(2):
            with pytest.raises(Retryable) as stuck:
                await agent.destroy("job")
            assert stuck.value.reason is Reason.DESTROY_FAILED
            assert str(error.args[-1]) in stuck.value.message
            assert str(error.args[-1]) in (await agent.status("job")).message
        assert not (await agent.status("job")).running
        failing.error = None
        ended = await agent.destroy("job")
        assert ended is not None and ended.signal in (signal.SIGTERM, signal.SIGKILL)
        nothing_is_left(agent, "job")


@pytest.mark.root
@pytest.mark.cgroup
async def test_a_clean_up_that_fails_after_the_payloads_own_end_is_made_up_for_by_destroy(world: World) -> None:
    failing = Failing("cleanup", Retryable("later"))
    async with world.agent([failing]) as agent:
        await agent.launch("job", shell="exit 4")
        await until("its end was noticed twice", lambda: world.notified.count("job") >= 3)
        assert "later" in (await agent.status("job")).message
        failing.error = None
        waiting = asyncio.create_task(agent.ended("job"))
        await asyncio.sleep(0)
        ended = await agent.destroy("job")
        assert ended is not None and ended.code == 4 and await waiting == ended


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.parametrize("stage", ["prepare", "isolate"])
@pytest.mark.vm
async def test_a_container_destroyed_while_it_is_launched_never_runs(world: World, stage: str) -> None:
    slow = Slow(stage)
    async with world.agent([slow]) as agent:
        launching = asyncio.create_task(agent.launch("job", shell=f"touch {world.base}/ran"))
        await until("the launch is half-way", slow.reached.is_set)
        assert (await agent.status("job")).state is ContainerState[f"{stage[:-1].upper()}ING"]
        destroying = asyncio.create_task(agent.destroy("job"))
        await asyncio.sleep(0)
        slow.go.set()
        with pytest.raises(Retryable) as given_up:
            await launching
        assert given_up.value.reason is Reason.DESTROYED
        await destroying
        nothing_is_left(agent, "job")
        assert not (world.base / "ran").exists()
        assert (await agent.launch("job", command=SLEEP)).running


@pytest.mark.root
@pytest.mark.cgroup
async def test_a_launch_that_is_cancelled_leaves_nothing(world: World) -> None:
    slow = Slow("isolate")
    async with world.agent([slow]) as agent:
        launching = asyncio.create_task(agent.launch("job", command=SLEEP))
        await until("the child is forked", slow.reached.is_set)
        launching.cancel()
        slow.go.set()
        with pytest.raises(asyncio.CancelledError):
            await launching
        nothing_is_left(agent, "job")


@pytest.mark.root
@pytest.mark.cgroup
async def test_a_blocked_child_that_is_killed_fails_its_launch_and_nothing_else(world: World) -> None:
    slow = Slow("isolate", only="job")
    async with world.agent([slow]) as agent:
        await agent.launch("other", command=SLEEP)
        launching = asyncio.create_task(agent.launch("job", command=SLEEP))
        await until("the child is forked", slow.reached.is_set)
        os.kill(await agent.pid("job"), signal.SIGKILL)
        slow.go.set()
        try:
            await launching
        except ReconcilerError as error:
            assert "job" in error.message
        else:  # it was released in the moment between the signal and its death
            assert (await agent.ended("job")).signal == signal.SIGKILL
        await agent.destroy("job")
        nothing_is_left(agent, "job")
        assert (await agent.status("other")).running


@pytest.mark.root
@pytest.mark.cgroup
async def test_a_keeper_that_dies_during_a_launch_fails_it_and_leaves_nothing(world: World) -> None:
    slow = Slow("isolate", only="job")
    async with world.agent([slow]) as agent:
        await agent.launch("other", command=SLEEP)
        launching = asyncio.create_task(agent.launch("job", shell=f"touch {world.base}/ran"))
        await until("the child is forked", slow.reached.is_set)
        await world.kill_keeper()
        slow.go.set()
        with pytest.raises(ReconcilerError):
            await launching
        await agent.destroy("job")
        nothing_is_left(agent, "job")
        assert not (world.base / "ran").exists() and (await agent.status("other")).running
        assert await agent.run("job", shell="echo again") == ["again"]
        await asyncio.sleep(0)
        assert world.record("job").exists()


@pytest.mark.root
@pytest.mark.cgroup
async def test_a_parent_that_ends_while_its_nested_is_launched_takes_it_along(world: World) -> None:
    slow = Slow("prepare", only="shop.web")
    async with world.agent([slow]) as agent:
        await agent.launch("shop", command=SLEEP)
        launching = asyncio.create_task(agent.launch("shop.web", command=SLEEP))
        await until("the launch is half-way", slow.reached.is_set)
        os.kill(await agent.pid("shop"), signal.SIGKILL)
        await agent.ended("shop")
        slow.go.set()
        with pytest.raises(Retryable):
            await launching
        nothing_is_left(agent, "shop.web")


@pytest.mark.root
@pytest.mark.cgroup
async def test_one_stuck_launch_blocks_no_other(world: World) -> None:
    slow = Slow("prepare", only="stuck")
    async with world.agent([slow]) as agent:
        launching = asyncio.create_task(agent.launch("stuck", command=SLEEP))
        await until("it is stuck", slow.reached.is_set)
        assert await agent.run("other", shell="echo fine") == ["fine"]
        await agent.destroy("other")
        assert (await agent.status("stuck")).state is ContainerState.PREPARING
        slow.go.set()
        assert (await launching).running


@pytest.mark.vm
async def test_many_launches_at_once_all_succeed(either: World) -> None:
    async with either.agent() as agent:
        names = [f"job{number}" for number in range(12)]
        found = await asyncio.gather(*(agent.run(name, shell=f"echo {name}; exit 0") for name in names))
        assert found == [[name] for name in names]
        await asyncio.gather(*(agent.destroy(name) for name in names))
        assert agent.containerizer.containers() == []


async def test_one_name_launched_twice_at_once_runs_once(either: World) -> None:
    async with either.agent() as agent:
        config = either.config("job", shell="echo ran; sleep 1000")
        results = await asyncio.gather(*(agent.containerizer.launch(config) for _ in range(5)))
        assert sorted(result.name for result in results) == ["ALREADY_LAUNCHED"] * 4 + ["LAUNCHED"]
        assert await agent.says("job", "ran") == "ran\n"
        assert len(proc.descendants(await agent.pid("job"))) == 2


class EndingTheParent(PassiveIsolator):
    """Of what is nested, while that is being launched."""

    name = "test/ending-the-parent"
    parent = 0

    def isolate(self, context: Context, pid: int) -> None:
        if "." in context.name:
            os.kill(self.parent, signal.SIGKILL)
            wait_for("it and what is nested in it are dead", lambda: not any(map(processes.alive, (self.parent, pid))))


async def test_a_parent_that_ends_during_a_launch_is_why_and_no_failure_of_the_nested(either: World) -> None:
    isolator = EndingTheParent()
    async with either.agent([isolator]) as agent:
        await agent.launch("shop", command=SLEEP)
        isolator.parent = await agent.pid("shop")
        with pytest.raises(ParentEnded, match="its parent ended while it was launched"):
            await agent.launch("shop.web", command=SLEEP)
        status = await agent.status("shop.web")
        assert status.termination is not None and status.termination.reason is Reason.PARENT_ENDED
        await agent.destroy("shop")
