"""Converged means an empty plan, and planning or applying again touches nothing at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests import leaks
from tests.e2e.checks import Row, eventually, gone, instance, not_restarted, plan_is_empty, running, state
from tests.e2e.world import World, document, sleeper

POD = [{"name": "web", "command": ["sleep", "infinity"]}]


def everything(world: World) -> dict[str, object]:
    """Every file but the lock, with what a write would change; directories, cgroups, mounts and processes."""
    found: dict[str, object] = {}
    for top in (world.root, world.runtime, world.specs):
        for directory, _, files in os.walk(top):
            found[directory] = Path(directory).stat().st_ino
            for path in (Path(directory, name) for name in files if name != "lock"):
                facts = path.lstat()
                found[str(path)] = (facts.st_ino, facts.st_mode, facts.st_size, facts.st_mtime_ns)
    now = leaks.take(world.scope())
    return found | dict(now.cgroups) | dict(now.mounts) | {str(process): "" for process in now.processes}


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """A line per thing that came, went or was written."""
    changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
    came, went = after.keys() - before.keys(), before.keys() - after.keys()
    return sorted([f"changed: {name}" for name in changed] + [f"new: {n}" for n in came] + [f"gone: {n}" for n in went])


def test_apply_converges_once_and_leaves_everything_running(world: World) -> None:
    """It returns when all is as desired, with no agent left behind."""
    world.write("shop.yaml", sleeper("shop", containers=POD))
    world.apply()
    assert {name: row["status"] for name, row in world.rows().items()} == {"shop": "Running", "shop.web": "Running"}
    plan_is_empty(world)


def test_a_second_apply_changes_nothing(any_world: World) -> None:
    """Files (but the lock), cgroups, mounts and processes stay as they were, to the nanosecond."""
    any_world.write("shop.yaml", sleeper("shop", containers=POD))
    any_world.apply()
    before = everything(any_world)
    any_world.apply()
    assert not (written := differences(before, everything(any_world))), "\n".join(written)


def test_an_apply_after_a_job_was_recorded_as_ended_changes_nothing(world: World) -> None:
    """The apply that finds it ended writes that down, and no later one has anything to write."""
    world.write("job.yaml", document("job", command=["true"], restartPolicy="Never"))
    world.write("web.yaml", sleeper("web"))
    world.apply()
    state(world, "job", "Completed")
    world.apply()
    before = everything(world)
    world.apply()
    assert not (written := differences(before, everything(world))), "\n".join(written)


def test_plan_on_a_machine_that_never_ran_anything_leaves_no_trace(any_world: World) -> None:
    """Not even the state directory comes to be."""
    any_world.write("web.yaml", sleeper("web"))
    before = everything(any_world)
    answer = any_world.reconciler("plan", any_world.specs, "-o", "json")
    assert answer.returncode == 2, answer.stderr
    assert not (written := differences(before, everything(any_world))), "\n".join(written)
    assert not any_world.root.exists() and not any_world.runtime.exists()
    (action,) = json.loads(answer.stdout)["actions"]
    assert (action["op"], action["name"], action["class"]) == ("create", "web", "create")


def test_plan_beside_what_runs_names_each_change_its_class_and_its_cause(world: World) -> None:
    """live, restart, create and destroy, each with what led to it; and nothing is touched."""
    for name in ("same", "live", "edit", "gone"):
        world.write(f"{name}.yaml", sleeper(name))
    world.apply()
    world.write("live.yaml", sleeper("live", labels={"a": "b"}))
    world.write("edit.yaml", sleeper("edit", "600001"))
    world.write("new.yaml", sleeper("new"))
    world.delete("gone.yaml")
    before = everything(world)
    text = world.succeed("plan", world.specs, code=2)
    actions = {
        each["name"]: each for each in json.loads(world.succeed("plan", world.specs, "-o", "json", code=2))["actions"]
    }
    assert not (written := differences(before, everything(world))), "\n".join(written)
    changes = {name: each["class"] for name, each in actions.items()}
    assert changes == {"live": "live", "edit": "restart", "gone": "destroy", "new": "create"}
    assert "600001" in actions["edit"]["cause"] and "gone.yaml" in actions["gone"]["cause"]
    assert all(each["cause"] in text for each in actions.values()), text


def test_plan_with_an_invalid_file_exits_1_and_plans_the_rest(world: World) -> None:
    """One bad file hides nothing of the others."""
    world.write("web.yaml", sleeper("web"))
    world.write("bad.yaml", "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: bad}\nspec: {comand: [a]}\n")
    answer = world.reconciler("plan", world.specs, "-o", "json")
    assert answer.returncode == 1
    assert [each["name"] for each in json.loads(answer.stdout)["actions"]] == ["web"]
    assert "bad.yaml:4:" in answer.stdout + answer.stderr


def test_apply_takes_away_what_the_directory_no_longer_has(world: World) -> None:
    """Pruning covers what was recorded from this source."""
    world.write("web.yaml", sleeper("web"))
    world.write("db.yaml", sleeper("db"))
    world.apply()
    web, db = instance(world, "web"), instance(world, "db")
    world.delete("web.yaml")
    world.apply()
    gone(world, "web", web)
    not_restarted(world, db)


def test_apply_exits_1_when_something_can_only_be_invalid(world: World) -> None:
    """The rest runs all the same."""
    world.write("web.yaml", sleeper("web"))
    world.write("bad.yaml", document("bad", comand=["true"]))
    world.apply(code=1)
    state(world, "web", "Running")
    state(world, "bad", "Invalid")


def test_apply_exits_1_once_a_one_shot_has_failed(world: World) -> None:
    """Only Failed remains. (While it still ran, it was as desired.)"""
    world.write("job.yaml", document("job", shell="exit 3", restartPolicy="Never"))
    world.reconciler("apply", world.specs)
    state(world, "job", "Failed")
    world.apply(code=1)
    state(world, "job", "Failed")


def test_a_one_shot_completes_once_with_its_exit_code_and_logs(world: World) -> None:
    """It is not run again by an agent, by an apply or by an agent's restart."""
    world.write("job.yaml", document("job", shell="echo ran >>ran; echo out; exit 0", restartPolicy="Never"))
    world.apply()
    state(world, "job", "Completed")
    for _ in range(2):
        with world.agent():
            state(world, "job", "Completed")
    world.apply()
    ended_well(world.rows()["job"])
    assert world.succeed("logs", "job") == "out\n"
    assert (world.sandbox("job") / "ran").read_text() == "ran\n"


def ended_well(row: Row) -> None:
    end = row["exit"]
    assert (row["pid"], end["code"], end["signal"], end["reason"]) == (None, 0, None, "Exited")


def test_on_failure_restarts_failures_and_not_successes(world: World) -> None:
    """The second try of this job succeeds, and that is its end."""
    shell = "if [ -e tried ]; then exit 0; fi; touch tried; exit 5"
    world.write("job.yaml", document("job", shell=shell, restartPolicy="OnFailure", backoff={"initial": "100ms"}))
    with world.agent():
        row = state(world, "job", "Completed")
        assert row["restarts"] == 1


def test_apply_beside_a_live_agent_goes_through_it(world: World) -> None:
    """Same source: the agent does it, `apply` waits and answers."""
    with world.agent():
        world.write("web.yaml", sleeper("web", "600002"))
        world.apply()
        assert world.rows()["web"]["status"] == "Running"
        eventually(lambda: running(world, ["sleep", "600002"]) == 1, "exactly one payload runs")


def test_apply_of_another_source_beside_a_live_agent_is_refused_with_3(world: World) -> None:
    """Two sources would prune each other's containers."""
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        before = instance(world, "web")
        answer = world.reconciler("apply", world.aside)
        assert answer.returncode == 3, answer.stderr
        not_restarted(world, before)


def test_a_callers_captured_output_does_not_hang(any_world: World) -> None:
    """`out=$(reconciler apply …)` returns although the keeper and the containers live on."""
    any_world.write("web.yaml", sleeper("web"))
    command = " ".join(any_world.argv("apply", any_world.specs))
    answer = any_world.nursery.run(
        ["sh", "-c", f"out=$({command} 2>&1); echo over"], timeout=20, env=any_world.environment()
    )
    assert answer.stdout == "over\n"
    instance(any_world, "web")
