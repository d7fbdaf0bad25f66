"""Who waits for whom, what stands still, and what goes on although its file is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time

from tests.e2e.checks import (
    eventually,
    exited,
    gone,
    instance,
    message_contains,
    not_restarted,
    plan_is_empty,
    state,
    until,
)
from tests.e2e.world import World, document, sleeper


def test_a_pod_starts_and_ends_in_its_order(world: World) -> None:
    """Init containers one after the other, then db, then web; the other way round at the end."""
    said = world.aside / "said"

    def service(name: str, **fields: object) -> dict[str, object]:
        told = f"echo {name} >> {said}; trap 'echo {name} ends >> {said}; exit 0' TERM; sleep infinity & wait"
        return {"name": name, "shell": told, **fields}

    first = [{"name": name, "shell": f"sleep 0.2; echo {name} >> {said}"} for name in ("one", "two")]
    pod = [service("web", dependsOn=[{"container": "db", "condition": "Ready"}]), service("db")]
    world.write("pod.yaml", document("pod", initContainers=first, containers=pod))
    with world.agent():
        state(world, "pod.web", "Running")
        assert [world.rows()[f"pod.{name}"]["status"] for name in ("one", "two")] == ["Completed", "Completed"]
        os.kill(instance(world, "pod").pid, signal.SIGKILL)
        until(world, "pod", lambda row: row["restarts"] == 1, "is started again")
        until(world, "pod.web", lambda row: row["status"] == "Running" and row["restarts"] == 1, "runs again")
        plan_is_empty(world)
        world.delete("pod.yaml")
        gone(world, "pod")
    assert said.read_text().split("\n") == [*2 * ["one", "two", "db", "web"], "web ends", "db ends", ""]


def test_what_waits_says_for_what_and_what_runs_is_left_alone(world: World) -> None:
    world.write("app.yaml", sleeper("app", dependsOn=[{"container": "db"}]))
    with world.agent():
        message_contains(world, "app", "waits for db to be Started: no file defines it")
        world.write("db.yaml", sleeper("db", suspend=True))
        message_contains(world, "app", "waits for db to be Started, which is Suspended")
        world.write("db.yaml", sleeper("db"))
        app, db = instance(world, "app"), instance(world, "db")
        os.kill(db.pid, signal.SIGKILL)
        until(world, "db", lambda row: row["restarts"] == 1 and row["pid"], "runs again")
        not_restarted(world, app)


def test_a_suspended_container_stays_so_with_and_without_an_agent(world: World) -> None:
    world.write("web.yaml", sleeper("web"))
    with world.agent() as agent:
        web = instance(world, "web")
        world.succeed("suspend", "web")
        row = state(world, "web", "Suspended")
        assert not web.alive
        assert "suspended by root at " in row["message"] and row["reason"] == "Suspended"
        plan_is_empty(world)
        world.write("web.yaml", sleeper("web", env={"NEW": "1"}))
        message_contains(world, "web", "suspended by root at ", "its spec has changed: generation 2")
        agent.kill()
    with world.agent():
        message_contains(world, "web", "suspended by root at ", "its spec has changed: generation 2")
        assert world.rows()["web"]["status"] == "Suspended"
        world.succeed("destroy", "web")
        assert world.rows()["web"]["status"] == "Suspended"
        assert not (world.root / "containers" / "web").exists()
        world.succeed("resume", "web")
        web = instance(world, "web")
        world.succeed("destroy", "web", code=1)
    world.succeed("suspend", "web")
    assert (world.rows()["web"]["status"], web.alive) == ("Suspended", False)
    world.succeed("resume", "web")
    assert "no agent is running" in world.rows()["web"]["message"]
    world.succeed("suspend", "nobody", code=4)


def test_suspended_by_its_spec_it_starts_again_when_that_is_taken_out(world: World) -> None:
    world.write("pod.yaml", document("pod", containers=[{"name": "web", "command": ["sleep", "infinity"]}]))
    world.apply()
    web = instance(world, "pod.web")
    suspended = document("pod", suspend=True, containers=[{"name": "web", "command": ["sleep", "1000"]}])
    world.write("pod.yaml", suspended)
    world.apply()
    assert {row["status"] for row in world.rows().values()} == {"Suspended"}
    assert not web.alive
    assert world.succeed("resume", "pod", code=1) == ""
    plan_is_empty(world)
    world.write("pod.yaml", document("pod", containers=[{"name": "web", "command": ["sleep", "1000"]}]))
    world.apply()
    assert instance(world, "pod.web").pid != web.pid


def test_prune_says_what_becomes_of_it_without_its_file(world: World) -> None:
    for name, prune in {"asks": "confirm", "stays": "never", "goes": "auto"}.items():
        world.write(f"{name}.yaml", sleeper(name, prune=prune))
    with world.agent() as agent:
        asks, stays, goes = (instance(world, name) for name in ("asks", "stays", "goes"))
        for name in ("asks", "stays", "goes"):
            world.delete(f"{name}.yaml")
        gone(world, "goes", goes)
        state(world, "asks", "Held")
        message_contains(world, "stays", "prune being never", "reconciler destroy stays")
        agent.kill()
    with world.agent():
        state(world, "asks", "Held")
        state(world, "stays", "Running")
        not_restarted(world, stays)
        assert asks.alive
        world.succeed("approve", "asks")
        gone(world, "asks", asks)
        world.succeed("destroy", "stays")
        gone(world, "stays", stays)


def test_the_rest_of_a_mass_deletion_is_held_by_the_next_agent(world: World) -> None:
    """Although fewer than five are left; what is approved without an agent is destroyed by the next."""
    names = [f"b{number}" for number in range(5)]
    for name in names:
        world.write(f"batch/{name}.yaml", sleeper(name))
    with world.agent() as agent:
        before = {name: instance(world, name) for name in names}
        (world.specs / "batch").rename(world.aside / "batch")
        state(world, "b4", "Held")
        world.succeed("approve", "b0", "b1", "b2")
        gone(world, "b2", before["b2"])
        agent.kill()
    with world.agent() as agent:
        for name in ("b3", "b4"):
            state(world, name, "Held")
            assert before[name].alive
        agent.kill()
    assert world.succeed("approve", "b3", "nobody", code=1) == "b3\n"
    assert before["b3"].alive, "nobody is there to destroy it"
    with world.agent():
        gone(world, "b3", before["b3"])
        state(world, "b4", "Held")
        assert before["b4"].alive


def test_a_deadline_survives_the_agent(world: World) -> None:
    """Counted from the start of the run; what ends in time is not touched."""
    job = sleeper("job", maxCompletionTime="1500ms", restartPolicy="Never")
    world.write("job.yaml", job)
    world.write("quick.yaml", document("quick", command=["true"], maxCompletionTime="1s", restartPolicy="Never"))
    with world.agent() as agent:
        began = time.time()
        state(world, "job", "Running")
        agent.kill()
    with world.agent():
        row = state(world, "job", "Failed")
        assert row["exit"]["reason"] == row["reason"] == "DeadlineExceeded"
        assert (row["exit"]["signal"], row["restarts"]) == (signal.SIGTERM, 0)
        assert 1.4 < time.time() - began < 8
        assert state(world, "quick", "Completed")["exit"]["reason"] == "Exited"


def test_after_a_reboot_everything_is_as_recorded_before_the_source_can_be_read(world: World) -> None:
    """The runtime directory is gone, nothing runs, and the directory is not mounted yet. A finished job stays so."""
    ran = world.aside / "ran"
    world.write("pod.yaml", document("pod", containers=[{"name": "web", "command": ["sleep", "infinity"]}]))
    world.write("job.yaml", document("job", shell=f"echo ran >> {ran}", restartPolicy="OnFailure"))
    world.write("off.yaml", sleeper("off"))
    with world.agent() as agent:
        state(world, "pod.web", "Running")
        exited(world, "job", 0)
        world.succeed("suspend", "off")
        agent.kill()
    pids = [row["pid"] for row in world.rows().values() if row["pid"]]
    for pid in [*(keeper.pid for keeper in world.keepers()), *pids]:
        with contextlib.suppress(ProcessLookupError):  # it ended with its parent
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(row["pid"] for row in world.rows().values()), "nothing runs")
    shutil.rmtree(world.runtime)
    world.specs.rename(world.aside / "unmounted")
    with world.agent():
        state(world, "pod.web", "Running")
        message_contains(world, "pod", "its source is unknown")
        assert [world.rows()[name]["status"] for name in ("job", "off")] == ["Completed", "Suspended"]
        (world.aside / "unmounted").rename(world.specs)
        until(world, "pod", lambda row: "unknown" not in row["message"], "its source is known again")
        plan_is_empty(world)
    assert ran.read_text() == "ran\n"


def test_what_is_for_other_nodes_is_ignored(world: World) -> None:
    world.write("here.yaml", sleeper("here", nodeSelector={"disk": "ssd", "os": "linux"}))
    world.write("there.yaml", sleeper("there", nodeSelector={"disk": "tape"}))
    world.apply("--node-label", "disk=ssd")
    assert {name: row["status"] for name, row in world.rows().items()} == {"here": "Running", "there": "Ignored"}
    message_contains(world, "there", "disk must be tape, this node's is ssd")
    world.apply("--node-label", "disk=tape")
    assert {name: row["status"] for name, row in world.rows().items()} == {"here": "Ignored", "there": "Running"}
