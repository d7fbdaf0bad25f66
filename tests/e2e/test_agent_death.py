"""The agent or the keeper may die at any moment: nothing restarts, and nothing is forgotten."""

from __future__ import annotations

import os
import signal

from tests.e2e.checks import (
    eventually,
    exited,
    gone,
    instance,
    not_restarted,
    plan_is_empty,
    restarted,
    running,
    state,
)
from tests.e2e.world import World, document, sleeper

POD = [{"name": "web", "command": ["sleep", "infinity"]}]
JOB = "while [ ! -e go ]; do sleep 0.02; done; echo done; exit 7"


def kill_keeper(world: World) -> None:
    keepers = world.keepers()
    assert len(keepers) == 1, f"one keeper per state directory, not {keepers}"
    os.kill(keepers[0].pid, signal.SIGKILL)
    eventually(lambda: keepers[0] not in world.keepers(), "the keeper is dead")


def test_ctrl_c_leaves_the_containers(any_world: World) -> None:
    """SIGINT ends the agent with 0; the containers stay, and `ps` still shows them."""
    any_world.write("web.yaml", sleeper("web"))
    with any_world.agent() as agent:
        before = instance(any_world, "web")
        assert agent.stop(signal.SIGINT) == 0
    not_restarted(any_world, before)


def test_sigterm_ends_the_agent_with_0_and_leaves_the_containers(world: World) -> None:
    """As a service manager stops it."""
    world.write("web.yaml", sleeper("web"))
    with world.agent() as agent:
        before = instance(world, "web")
        assert agent.stop(signal.SIGTERM) == 0
    not_restarted(world, before)


def test_an_agent_that_was_killed_and_started_again_restarts_nothing(any_world: World) -> None:
    """kill -9, and the next agent adopts what runs, nested ones included."""
    any_world.write("shop.yaml", sleeper("shop", containers=POD))
    with any_world.agent() as agent:
        before = [instance(any_world, name) for name in ("shop", "shop.web")]
        agent.kill()
    with any_world.agent():
        for each in before:
            not_restarted(any_world, each)
        assert any_world.rows()["shop.web"]["restarts"] == 0
        plan_is_empty(any_world)


def test_the_rows_of_the_next_agent_are_believed_although_nothing_has_changed(any_world: World) -> None:
    """It finds all as the last one left it, and writes nothing; `ps` goes by its word all the same."""
    any_world.write("job.yaml", document("job", shell="exit 3", restartPolicy="Never"))
    with any_world.agent() as agent:
        exited(any_world, "job", 3)
        agent.stop(signal.SIGTERM)
    with any_world.agent():
        eventually(lambda: "starting" not in any_world.rows()["job"]["message"], "it has looked")
        assert any_world.rows()["job"]["status"] == "Failed"


def test_an_exit_that_happened_while_the_agent_was_dead_is_reported(any_world: World) -> None:
    """A one-shot that ends unseen is over all the same, with its own exit code, and is not run again."""
    any_world.write("job.yaml", document("job", shell=JOB, restartPolicy="Never"))
    with any_world.agent() as agent:
        before = instance(any_world, "job")
        go = any_world.sandbox("job") / "go"
        agent.kill()
    go.touch()
    eventually(lambda: not before.alive, "the job has ended")
    exited(any_world, "job", 7)
    with any_world.agent():
        state(any_world, "job", "Failed")
        exited(any_world, "job", 7)
        assert any_world.succeed("logs", "job") == "done\n"


def test_a_service_that_died_while_the_agent_was_dead_is_restarted_by_the_next(world: World) -> None:
    """Without an agent nothing is restarted; with one it is."""
    world.write("web.yaml", sleeper("web", backoff={"initial": "100ms"}))
    with world.agent() as agent:
        before = instance(world, "web")
        agent.kill()
    os.kill(before.pid, signal.SIGKILL)
    exited(world, "web", None, signal.SIGKILL)
    with world.agent():
        restarted(world, before)


def test_a_file_deleted_while_the_agent_was_dead_takes_its_container_away(world: World) -> None:
    """What was applied is on record, so that pruning survives the agent."""
    world.write("web.yaml", sleeper("web"))
    world.write("db.yaml", sleeper("db"))
    with world.agent() as agent:
        web, db = instance(world, "web"), instance(world, "db")
        agent.kill()
    world.delete("web.yaml")
    with world.agent():
        gone(world, "web", web)
        not_restarted(world, db)


def test_a_destruction_that_the_agents_death_interrupted_is_finished_by_the_next(world: World) -> None:
    """Killed while a container was stopping: the next agent takes it away all the same."""
    stubborn = document("web", shell="trap '' TERM; exec sleep 510001", killPolicy={"gracePeriod": "2s"})
    world.write("web.yaml", stubborn)
    with world.agent() as agent:
        web = instance(world, "web")
        eventually(lambda: running(world, ["sleep", "510001"]) == 1, "the payload ignores SIGTERM by now")
        world.delete("web.yaml")
        state(world, "web", "Stopping")
        agent.kill()
    with world.agent():
        gone(world, "web", web)
    assert running(world, ["sleep", "510001"]) == 0


def test_a_killed_keeper_leaves_its_containers_running(any_world: World) -> None:
    """They are adopted by a new keeper, which can start and destroy as the old one could."""
    any_world.write("shop.yaml", sleeper("shop", containers=POD))
    with any_world.agent():
        before = [instance(any_world, name) for name in ("shop", "shop.web")]
        kill_keeper(any_world)
        any_world.write("new.yaml", sleeper("new"))
        state(any_world, "new", "Running")
        for each in before:
            not_restarted(any_world, each)
        any_world.delete("shop.yaml")
        gone(any_world, "shop", *before)


def test_the_exit_code_of_a_container_survives_its_keeper(any_world: World) -> None:
    """The container's init wrote it down itself."""
    any_world.write("job.yaml", document("job", shell=JOB, restartPolicy="Never"))
    with any_world.agent():
        instance(any_world, "job")
        kill_keeper(any_world)
        (any_world.sandbox("job") / "go").touch()
        exited(any_world, "job", 7)


def test_a_container_whose_keeper_is_dead_still_comes_back_when_killed(world: World) -> None:
    """Nothing of the healing depends on the keeper that launched it."""
    world.write("web.yaml", sleeper("web", backoff={"initial": "100ms"}))
    with world.agent():
        before = instance(world, "web")
        kill_keeper(world)
        os.kill(before.pid, signal.SIGKILL)
        restarted(world, before)


def test_agent_and_keeper_killed_together_restart_nothing(any_world: World) -> None:
    """Both at once, and the next agent finds everything as it was."""
    any_world.write("shop.yaml", sleeper("shop", containers=POD))
    with any_world.agent() as agent:
        before = [instance(any_world, name) for name in ("shop", "shop.web")]
        keeper = any_world.keepers()[0]
        os.kill(keeper.pid, signal.SIGKILL)
        agent.kill()
    with any_world.agent():
        for each in before:
            not_restarted(any_world, each)
        plan_is_empty(any_world)


def test_an_exit_while_both_were_dead_is_reported_with_its_code(any_world: World) -> None:
    """The file that the init wrote is all that is needed."""
    any_world.write("job.yaml", document("job", shell=JOB, restartPolicy="Never"))
    with any_world.agent() as agent:
        before = instance(any_world, "job")
        go = any_world.sandbox("job") / "go"
        kill_keeper(any_world)
        agent.kill()
    for keeper in any_world.keepers():
        os.kill(keeper.pid, signal.SIGKILL)
    go.touch()
    eventually(lambda: not before.alive, "the job has ended")
    with any_world.agent():
        state(any_world, "job", "Failed")
        exited(any_world, "job", 7)


def test_an_agent_that_is_killed_again_and_again_while_files_change_converges(world: World) -> None:
    """Five lives, each with another edit under way; at the end exactly the last version runs."""
    for number in range(5):
        world.rename_in("web.yaml", sleeper("web", f"5000{number}"))
        agent = world.start()
        if number % 2:
            agent.ready()
        else:
            eventually(lambda: (world.root / "lock").exists(), "the agent has begun")
        agent.kill()
    with world.agent():
        state(world, "web", "Running")
        eventually(
            lambda: [running(world, ["sleep", f"5000{n}"]) for n in range(5)] == [0, 0, 0, 0, 1], "only the last"
        )
