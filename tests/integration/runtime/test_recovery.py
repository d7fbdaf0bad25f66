"""What a later agent finds: the same processes, how they ended meanwhile, and nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import LaunchResult
from reconciler.runtime.kernel import cgroups, proc
from reconciler.runtime.launcher.cgroup_tree import CgroupTree
from reconciler.runtime.mesos.observing import observe_runs
from reconciler.states import ContainerState, Reason
from tests import processes
from tests.integration.runtime.dying_agent import GRACE
from tests.integration.runtime.world import World, until

SLEEP = ["/bin/sleep", "1000"]
EXIT_STATUS_OF_PIDFDS = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)
TREE = ["shop", "shop.web", "shop.web.log"]


async def start_and_leave(world: World, names: list[str] = TREE) -> dict[str, tuple[int, int]]:
    """Name → pids of init and payload."""
    async with world.agent() as agent:
        for name in names:
            await agent.launch(name, command=SLEEP)
        return {name: (await agent.pid(name), await agent.payload(name)) for name in names}


@pytest.mark.vm
async def test_another_agent_finds_the_same_processes(either: World) -> None:
    pids = await start_and_leave(either)
    async with either.agent() as agent:
        assert agent.containerizer.containers() == TREE
        for name in TREE:
            status = await agent.status(name)
            assert (status.pid, await agent.payload(name)) == pids[name]
            assert status.running and status.started_at is not None and status.namespaces
            assert await agent.containerizer.launch(either.config(name, command=SLEEP)) is LaunchResult.ALREADY_LAUNCHED
        await agent.destroy("shop")
        assert agent.containerizer.containers() == []


async def test_recovering_changes_nothing_that_runs(either: World) -> None:
    await start_and_leave(either)
    before = {name: either.checkpoint(name) for name in TREE}
    for _ in range(3):
        async with either.agent():
            pass
    assert {name: either.checkpoint(name) for name in TREE} == before


@pytest.mark.parametrize(
    ("script", "init"),
    [("exit 7", True), ("kill -TERM $$", True), ("exit 7", False)],
    ids=["init", "signal", "no init"],
)
@pytest.mark.vm
async def test_an_end_without_an_agent_is_reported_with_its_status(either: World, script: str, init: bool) -> None:
    async with either.agent() as agent:
        await agent.launch("job", shell=f"while [ ! -e go ]; do sleep 0.01; done; {script}", init=init)
        pid = await agent.pid("job")
    (either.sandbox("job") / "go").touch()
    await until("it has ended", lambda: not processes.alive(pid))
    async with either.agent() as agent:
        ended = await agent.ended("job")
        assert (ended.code, ended.signal) == ((7, None) if "exit" in script else (None, signal.SIGTERM))
        assert (await agent.status("job")).state is None
        assert await agent.destroy("job") == ended


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
@pytest.mark.vm
async def test_a_killed_keeper_is_replaced_and_ends_are_still_told(either: World, name: str) -> None:
    async with either.agent() as agent:
        for each in TREE:
            await agent.launch(each, shell="while [ ! -e go ]; do sleep 0.01; done; exit 7")
        pids = {each: await agent.pid(each) for each in TREE}
        old = either.keeper()
        os.kill(old, signal.Signals[name])
        await either.next_keeper(old)
        assert {each: await agent.pid(each) for each in TREE} == pids
        for each in reversed(TREE):
            (either.sandbox(each) / "go").touch()
            assert (await agent.ended(each)).code == 7
        assert await agent.run("new", shell="echo works") == ["works"]


@pytest.mark.parametrize("init", [True, False], ids=["init", "no init"])
async def test_an_end_that_an_adopting_keeper_sees_is_told(either: World, init: bool) -> None:
    script = "while [ ! -e go ]; do sleep 0.01; done; exit 9"
    async with either.agent() as agent:
        await agent.launch("job", shell=script, init=init)
        old = await either.kill_keeper()
        await either.next_keeper(old)
        (either.sandbox("job") / "go").touch()
        ended = await agent.ended("job")
        assert ended.code == 9 or (not init and ended.reason is Reason.EXIT_STATUS_LOST)
        if EXIT_STATUS_OF_PIDFDS:
            assert ended.code == 9


@pytest.mark.vm
async def test_agent_and_keeper_both_gone_and_the_container_stays(either: World) -> None:
    pids = await start_and_leave(either)
    await either.kill_keeper()
    async with either.agent() as agent:
        assert {name: (await agent.pid(name), await agent.payload(name)) for name in TREE} == pids
        os.kill(pids["shop.web.log"][1], signal.SIGINT)
        assert (await agent.ended("shop.web.log")).signal == signal.SIGINT
        await agent.destroy("shop")
        assert agent.containerizer.containers() == []


@pytest.mark.parametrize("init", [True, False], ids=["init", "no init"])
@pytest.mark.vm
async def test_an_end_with_neither_agent_nor_keeper_is_told(either: World, init: bool) -> None:
    async with either.agent() as agent:
        await agent.launch("job", shell="while [ ! -e go ]; do sleep 0.01; done; exit 8", init=init)
        pid = await agent.pid("job")
    await either.kill_keeper()
    (either.sandbox("job") / "go").touch()
    await until("it was reaped", lambda: processes.read(pid) is None)
    async with either.agent() as agent:
        ended = await agent.ended("job")
        if init or (either.launcher == "linux" and EXIT_STATUS_OF_PIDFDS):
            assert ended.code == 8
        else:  # nobody was there to read it, and it is not taken for a success
            assert ended.reason is Reason.EXIT_STATUS_LOST and not ended.success


async def test_statuses_that_are_lost_are_told_as_lost_and_quickly(either: World) -> None:
    names = [f"job{number}" for number in range(4)]
    pids = await start_and_leave(either, names)
    await either.kill_keeper()
    for init, payload in pids.values():
        os.kill(init, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(payload, signal.SIGKILL)
    await until("all are dead", lambda: not any(processes.alive(init) for init, _ in pids.values()))
    begun = time.monotonic()
    async with either.agent() as agent:
        endings = [await agent.ended(name) for name in names]
        assert time.monotonic() - begun < 6, "they are waited for together"
        assert all(ended.reason in (Reason.EXIT_STATUS_LOST, Reason.SIGNALED) for ended in endings)


# ---- records that are wrong


def started(command: list[str], **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(command, **options)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"version": 1, "name": "shop"}'])
async def test_a_torn_record_quarantines_its_container_alone(either: World, text: str) -> None:
    pids = await start_and_leave(either, ["other", "shop"])
    whole = either.record("shop").read_text()
    either.record("shop").write_text(text)
    async with either.agent() as agent:
        assert (await agent.pid("other")) == pids["other"][0]
        with pytest.raises(Retryable) as unknown:
            await agent.status("shop")
        assert unknown.value.reason is Reason.RECORD_UNREADABLE and "run.json" in unknown.value.message
        assert processes.alive(pids["shop"][1]), "nothing is done to it"
        assert await agent.containerizer.launch(either.config("shop", command=SLEEP)) is LaunchResult.ALREADY_LAUNCHED
    either.record("shop").write_text(whole)
    async with either.agent() as agent:
        assert (await agent.pid("shop")) == pids["shop"][0]


async def test_a_quarantined_container_is_destroyed_when_that_is_asked_for(either: World) -> None:
    pids = await start_and_leave(either, ["shop"])
    either.record("shop").write_text("torn")
    async with either.agent() as agent:
        await agent.destroy("shop")
        await until("it is dead", lambda: not any(map(processes.alive, pids["shop"])))
        assert agent.containerizer.containers() == []
        assert (await agent.launch("shop", command=SLEEP)).running


@pytest.mark.parametrize("change", [{"start": 1}, {"boot": "another boot"}], ids=["reused pid", "another boot"])
async def test_a_process_that_is_not_the_one_recorded_is_not_adopted(either: World, change: dict[str, object]) -> None:
    stranger = started(SLEEP)
    await start_and_leave(either, ["job"])
    record = json.loads(either.record("job").read_text())
    init = record["pid"]
    os.kill(init, signal.SIGKILL)
    await until("the container is dead", lambda: processes.read(init) is None)
    for file in ("exit", "reaped"):
        either.record("job").with_name(file).unlink(missing_ok=True)
    either.record("job").write_text(json.dumps({**record, "pid": stranger.pid, **change}))
    try:
        async with either.agent() as agent:
            assert (await agent.ended("job")).reason is Reason.EXIT_STATUS_LOST
            await agent.destroy("job")
        assert stranger.poll() is None, "a stranger is never touched"
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_child_that_was_never_released_and_is_just_dying_is_no_run(posix: World) -> None:
    """The next agent comes up faster than the keeper ends it; no other container suffers."""
    pids = await start_and_leave(posix, ["job", "other"])
    record = json.loads(posix.record("job").read_text())
    dying = started(["/bin/sleep", "0.1"])
    stat = proc.read_stat(dying.pid)
    assert stat is not None
    posix.record("job").write_text(json.dumps({**record, "pid": dying.pid, "start": stat.start, "state": "ISOLATING"}))
    async with posix.agent() as agent:
        assert agent.containerizer.containers() == ["other"]
        assert await agent.pid("other") == pids["other"][0]
    dying.wait()


async def test_a_directory_without_a_record_is_cleared_away(either: World) -> None:
    (either.run / "containers" / "job").mkdir(parents=True)
    (either.run / "containers" / "job" / "run.json.new").write_text('{"ver')
    async with either.agent() as agent:
        assert agent.containerizer.containers() == []
        assert not (either.run / "containers" / "job").exists()


@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
async def test_a_container_whose_record_is_gone_is_an_orphan_and_destroyed(either: World, nested: bool) -> None:
    names = ["shop", "shop.web"] if nested else ["shop"]
    pids = await start_and_leave(either, names)
    either.record(names[-1]).unlink()
    async with either.agent() as agent:
        await until("it is dead", lambda: not any(map(processes.alive, pids[names[-1]])))
        assert agent.containerizer.containers() == names[:-1]
        assert all(processes.alive(pids[name][1]) for name in names[:-1])
        assert (await agent.launch(names[-1], command=SLEEP)).running


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.vm
async def test_a_cgroup_of_ours_with_a_process_and_no_record_is_destroyed(world: World) -> None:
    tree = CgroupTree(cgroups.read_map(), World.CGROUPS, world.settings.owner)
    tree.create("lost")
    process = started(SLEEP)
    for directory in tree.process_dirs("lost").values():
        cgroups.write(directory, "cgroup.procs", process.pid)
    async with world.agent() as agent:
        assert agent.containerizer.containers() == []
        assert process.wait(5 * processes.PATIENCE) == -signal.SIGKILL
        assert world.cgroup_dirs() == []


@pytest.mark.root
@pytest.mark.cgroup
async def test_a_payload_that_left_its_dead_init_behind_does_not_run_twice(world: World) -> None:
    """The keeper and the init are killed: nobody is there to end what the init leaves."""
    async with world.agent() as agent:
        await agent.launch("job", shell="setsid -f sleep 1000; sleep 1000", namespaces={"pid": "host"})
        init = await agent.pid("job")
        below = await until("both run", lambda: len(found := proc.descendants(init)) == 3 and found)
    await world.kill_keeper()
    os.kill(init, signal.SIGKILL)
    await until("the init is dead", lambda: not processes.alive(init))
    async with world.agent() as agent:
        await agent.ended("job")
        assert not any(map(processes.alive, below))


async def test_a_recovery_without_a_keeper_is_tried_again_and_its_containers_are_unknown_meanwhile(
    posix: World,
) -> None:
    pids = await start_and_leave(posix, ["shop"])
    await posix.kill_keeper()
    lock = posix.run / "keeper.lock"
    lock.unlink()
    lock.mkdir()
    async with posix.agent() as agent:
        with pytest.raises(Retryable) as unknown:
            await agent.status("shop")
        assert unknown.value.reason is Reason.STATE_UNKNOWN and "keeper.lock" in unknown.value.message
        assert "keeper.lock" in agent.containerizer.notes()["containerizer mesos"]
        with pytest.raises(Retryable):
            await agent.destroy("shop")
        assert processes.alive(pids["shop"][1])
        lock.rmdir()
        await until("it is recovered", lambda: agent.containerizer.notes() == {})
        assert agent.containerizer.containers() == ["shop"] and await agent.pid("shop") == pids["shop"][0]


# ---- an agent that dies on the way


@pytest.fixture
def agents() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


async def die_at(agents: list[subprocess.Popen[str]], world: World, step: str, script: str) -> None:
    told = {"base": str(world.base), "owner": world.settings.owner, "launcher": world.launcher}
    told.update(step=step, name="job", script=script, cgroups=World.CGROUPS)
    command = [sys.executable, "-m", "tests.integration.runtime.dying_agent", json.dumps(told)]
    root = Path(__file__).resolve().parents[3]
    process = started(command, stdout=subprocess.PIPE, text=True, cwd=root)
    agents.append(process)
    assert process.stdout is not None
    line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 20 * processes.PATIENCE)
    assert line == f"at {step}\n"
    process.kill()
    process.wait()


def ran(world: World) -> str:
    """A line for each time that the payload has begun."""
    path = world.base / "ran"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("step", ["prepare", "isolate"])
async def test_an_agent_that_dies_during_a_launch_leaves_no_second_instance(
    either: World, agents: list[subprocess.Popen[str]], step: str
) -> None:
    script = f"echo ran >> {either.base}/ran; exec sleep 1000"
    await die_at(agents, either, step, script)
    async with either.agent() as agent:
        assert agent.containerizer.containers() == []
        assert not (either.base / "ran").exists(), "what was never released never runs"
        assert (await agent.launch("job", shell=script)).running
        assert await until("it runs", lambda: ran(either)) == "ran\n"


async def test_an_agent_that_dies_after_the_release_leaves_one_that_is_adopted(
    either: World, agents: list[subprocess.Popen[str]]
) -> None:
    await die_at(agents, either, "released", f"echo ran >> {either.base}/ran; exec sleep 1000")
    async with either.agent() as agent:
        assert (await agent.status("job")).state is ContainerState.RUNNING
        assert await until("it runs", lambda: ran(either)) == "ran\n"


@pytest.mark.vm
async def test_the_deadline_of_a_kill_survives_the_agent(either: World, agents: list[subprocess.Popen[str]]) -> None:
    def clock() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    await die_at(agents, either, "told", "trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done")
    record = either.checkpoint("job")
    assert record.kill_at is not None and clock() < record.kill_at <= clock() + GRACE
    assert observe_runs(either.run)["job"].state is ContainerState.DESTROYING, "without an agent too"
    async with either.agent() as agent:
        assert (await agent.status("job")).state is ContainerState.DESTROYING
        await until("it is over", lambda: not processes.alive(record.pid or 0))
        assert record.kill_at - 0.05 <= clock() < record.kill_at + processes.PATIENCE, (
            "neither at once nor with a grace of its own"
        )
        await until("nothing is left", lambda: agent.containerizer.containers() == [])
        assert not either.record("job").exists()


async def test_an_agent_that_dies_while_it_destroys_is_succeeded(
    either: World, agents: list[subprocess.Popen[str]]
) -> None:
    await die_at(agents, either, "destroying", "exec sleep 1000")
    async with either.agent() as agent:
        assert (await agent.ended("job")).signal is not None
        await agent.destroy("job")
        assert agent.containerizer.containers() == []
