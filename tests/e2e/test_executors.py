"""Custom executors: several tasks in one container, changed one by one; agents and executors come and go."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

from tests import processes
from tests.e2e.checks import (
    Instance,
    eventually,
    exited,
    gone,
    instance,
    not_restarted,
    payload,
    plan_is_empty,
    restarted,
    running,
    state,
    until,
)
from tests.e2e.world import CHECKOUT, World, document

QUICK = {"initial": "100ms", "max": "300ms"}
WAITS = "while [ ! -e go ]; do sleep 0.05; done; exit 7"


def several(world: World, name: str, executor: dict[str, Any] | None = None, **spec: object) -> str:
    program = world.base / "several.py"
    if not program.exists():
        shutil.copy(CHECKOUT / "examples" / "executors" / "several.py", program)
        program.chmod(0o755)
    whole = {"command": ["python3", str(program)]} | (executor or {})
    return document(name, executor=whole, backoff=QUICK, **spec)


def task(world: World, name: str, seconds: str) -> processes.Process:
    return payload(world, name, ["sleep", seconds])


def alive(process: processes.Process) -> bool:
    return processes.alive(process.pid, process.start)


def test_tasks_change_one_by_one_and_the_executor_outlives_the_agent(any_world: World) -> None:
    """Two tasks; one edited, one added, one dropped: each of them alone. kill -9 of the agent, an edit meanwhile; the
    executor finds the next one. Destroyed: its tasks are asked to end before anything is killed."""
    world = any_world
    tasks: dict[str, Any] = {"web": {"command": ["sleep", "7001"]}, "beat": {"command": ["sleep", "7002"]}}
    world.write("shop.yaml", several(world, "shop", {"tasks": tasks}))
    with world.agent() as agent:
        row = state(world, "shop", "Running")
        assert row["ready"]
        before = instance(world, "shop")
        web, beat = task(world, "shop", "7001"), task(world, "shop", "7002")
        plan_is_empty(world)
        changed = {"web": tasks["web"], "beat": {"shell": "exec sleep 7003"}, "new": {"command": ["sleep", "7004"]}}
        world.write("shop.yaml", several(world, "shop", {"tasks": changed}))
        third, fourth = task(world, "shop", "7003"), task(world, "shop", "7004")
        eventually(lambda: not alive(beat), "the changed task's old process is gone")
        until(world, "shop", lambda row: row["status"] == "Running" and "task" not in row["message"], "all run")
        not_restarted(world, before)
        assert alive(web)
        plan_is_empty(world)
        agent.kill()
    stubborn = {"shell": "trap 'echo asked; exit 0' TERM; echo trapped; while :; do sleep 0.05; done"}
    world.write("shop.yaml", several(world, "shop", {"tasks": {"web": tasks["web"], "last": stubborn}}))
    with world.agent():
        eventually(lambda: not alive(third) and not alive(fourth), "what was dropped meanwhile has ended")
        eventually(lambda: "trapped" in world.reconciler("logs", "shop").stdout, "and what was added runs")
        not_restarted(world, before)
        assert alive(web) and world.rows()["shop"]["restarts"] == 0
        log = Path(world.rows()["shop"]["sandbox"]).parent / "logs" / "stdout"
        with log.open() as said:
            world.delete("shop.yaml")
            gone(world, "shop", before)
            assert "asked" in said.read()
    assert not list(world.runtime.glob("executors/*"))


def test_the_end_of_a_task_while_no_agent_runs_is_reported(any_world: World) -> None:
    """The spec's own command is the one task. It ends unseen; the executor keeps that until the next agent has it."""
    world = any_world
    world.write("job.yaml", several(world, "job", shell=WAITS, restartPolicy="Never"))
    with world.agent() as agent:
        state(world, "job", "Running")
        executor, go = instance(world, "job"), world.sandbox("job") / "go"
        agent.kill()
    go.touch()
    eventually(lambda: running(world, ["/bin/sh", "-c", WAITS]) == 0, "the task has ended")
    assert executor.alive
    with world.agent():
        row = exited(world, "job", 7)
        assert (row["status"], row["exit"]["reason"]) == ("Failed", "TaskFailed")
        eventually(lambda: not executor.alive, "the executor was shut down")
    assert world.rows()["job"]["exit"]["code"] == 7


def test_executors_that_fail_are_ended_with_the_reason(world: World) -> None:
    """Killed; never subscribing; not coming back; out of the container: one world for all, each has its own exit."""
    flags = ("--executor-registration-timeout", "5s", "--executor-reregistration-timeout", "2s")
    one = {"tasks": {"one": {"command": ["sleep", "7011"]}}}
    world.write("crashed.yaml", several(world, "crashed", one))
    world.write("silent.yaml", several(world, "silent", {"command": ["sleep", "7012"]} | one, restartPolicy="Never"))
    world.write("stuck.yaml", several(world, "stuck", {"tasks": {"one": {"command": ["sleep", "7013"]}}}))
    with world.agent(*flags) as agent:
        state(world, "crashed", "Running")
        before = instance(world, "crashed")
        os.kill(_executor(before), signal.SIGKILL)
        restarted(world, before)
        assert world.rows()["crashed"]["exit"]["reason"] == "ExecutorTerminated"
        state(world, "crashed", "Running")
        state(world, "stuck", "Running")
        frozen, calm = instance(world, "stuck"), instance(world, "crashed")
        _refused(world.sandbox("crashed") / "executor.sock")
        assert exited(world, "silent", None, signal.SIGTERM)["exit"]["reason"] == "ExecutorRegistrationTimeout"
        agent.kill()
    os.kill(_executor(frozen), signal.SIGSTOP)
    planted = world.sandbox("crashed") / "executor.sock"
    planted.unlink()
    precious = world.base / "precious"
    precious.write_text("as it was")
    planted.symlink_to(precious)
    with world.agent(*flags):
        restarted(world, frozen)
        assert world.rows()["stuck"]["exit"]["reason"] == "ExecutorReregistrationTimeout"
        not_restarted(world, calm)
        assert precious.read_text() == "as it was" and planted.is_socket()
        state(world, "stuck", "Running")


def _executor(container: Instance) -> int:
    """Its host pid."""
    found = [
        each.pid for each in processes.below(container.pid) if "several.py" in " ".join(processes.cmdline(each.pid))
    ]
    assert len(found) == 1, found
    return found[0]


def _refused(path: Path) -> None:
    """Nobody of the host's is heard, root neither."""
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(10)
        stranger.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stranger.sendall(b'{"type": "SUBSCRIBE"}\n')
            assert stranger.recv(100) == b""
