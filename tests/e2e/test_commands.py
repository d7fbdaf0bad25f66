"""The verbs as scripts depend on them: exit codes, JSON keys, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from tests import processes
from tests.e2e.checks import eventually, gone, instance, not_restarted, state
from tests.e2e.world import World, document, sleeper

WHO = {"name", "parent", "type", "generation", "digest", "source", "sandbox"}
HOW = {"status", "state", "ready", "pid", "restarts", "message", "startedAt", "exit", "namespaces", "cgroups"}
NAMESPACES = {"pid", "network", "uts", "ipc", "mount", "cgroup", "user"}


def test_ps_of_a_root_that_does_not_exist_is_an_empty_list(world: World) -> None:
    """And asking does not make it."""
    assert json.loads(world.succeed("ps", "-o", "json")) == []
    assert world.reconciler("ps").returncode == 0
    assert not world.root.exists() and not world.runtime.exists()


def test_ps_json_has_the_promised_keys(any_world: World) -> None:
    """Running, nested and ended alike."""
    any_world.write("web.yaml", sleeper("web", containers=[{"name": "sub", "command": ["sleep", "infinity"]}]))
    any_world.write("job.yaml", document("job", shell="exit 0", restartPolicy="Never"))
    any_world.apply()
    rows = any_world.rows()
    assert set(rows) == {"web", "web.sub", "job"}
    for row in rows.values():
        assert row.keys() >= WHO | HOW, (WHO | HOW) - row.keys()
    assert (
        rows["web"].items()
        >= {"parent": None, "type": "mesos", "status": "Running", "state": "RUNNING", "ready": True}.items()
    )
    assert rows["web"]["exit"] is None and rows["job"]["pid"] is None
    assert rows["job"]["exit"].keys() >= {"code", "signal", "reason", "oomKilled"}
    assert rows["web"]["namespaces"].keys() == NAMESPACES
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", rows["web"]["startedAt"])
    assert str(any_world.specs / "web.yaml") in rows["web"]["source"]


@pytest.mark.root
@pytest.mark.cgroup
def test_ps_names_the_cgroups_that_the_process_is_really_in(world: World) -> None:
    """At each path, or in one child of it."""
    world.write("web.yaml", sleeper("web"))
    world.apply()
    row = world.rows()["web"]
    assert row["cgroups"]
    really = processes.cgroups(row["pid"]).values()
    for path in row["cgroups"].values():
        assert any(path.endswith(each) or path.endswith(each.rpartition("/")[0]) for each in really if each != "/"), (
            path
        )
        assert world.owner() in path.split("/")


def test_ps_shows_a_tree_and_names_only_when_asked_to(world: World) -> None:
    """Tables for people, `-o name` for loops in a shell."""
    world.write("web.yaml", sleeper("web", containers=[{"name": "sub", "command": ["sleep", "infinity"]}]))
    world.apply()
    assert world.succeed("ps", "-o", "name").split() == ["web", "web.sub"]
    table = world.succeed("ps")
    assert "Running" in table and "\x1b" not in table


@pytest.mark.parametrize("verb", [("status",), ("why",), ("inspect",), ("logs",), ("destroy",)])
def test_a_name_that_nobody_knows_is_4(world: World, verb: tuple[str, ...]) -> None:
    """With a sentence, without a traceback."""
    answer = world.reconciler(*verb, "nobody")
    assert answer.returncode == 4, answer.stderr
    assert "nobody" in answer.stderr and "Traceback" not in answer.stderr


def test_wait_returns_0_when_it_is_so_and_7_when_it_is_not_in_time(world: World) -> None:
    """For a running container, a completed one, and one that is to go."""
    world.write("web.yaml", sleeper("web"))
    world.write("job.yaml", document("job", command=["true"], restartPolicy="Never"))
    world.apply()
    world.succeed("wait", "web", "--for", "running", "--timeout", "5s")
    world.succeed("wait", "web", "--for", "ready", "--timeout", "5s")
    world.succeed("wait", "job", "--for", "completed", "--timeout", "5s")
    world.succeed("wait", "nobody", "--for", "gone", "--timeout", "5s")
    world.succeed("wait", "web", "--for", "gone", "--timeout", "300ms", code=7)


def test_wait_sees_what_happens_while_it_waits(world: World) -> None:
    """A container that is dropped in after it began; so does a script that has nothing but a shell."""
    with world.agent():
        look = f'until grep -q \'"status": *"Running"\' {world.runtime}/rows/web.json; do sleep 0.1; done 2>/dev/null'
        script = world.nursery.spawn(["sh", "-c", look], stdin=subprocess.DEVNULL)
        child = world.nursery.spawn(
            world.argv("wait", "web", "--for", "running", "--timeout", "20s"),
            stdin=subprocess.DEVNULL,
            env=world.environment(),
        )
        world.rename_in("web.yaml", sleeper("web"))
        assert (child.wait(20), script.wait(20)) == (0, 0)
        state(world, "web", "Running")


def test_check_accepts_what_is_right_and_touches_nothing(world: World) -> None:
    """Files and directories, exit 0."""
    world.write("web.yaml", sleeper("web"))
    world.succeed("check", world.specs)
    world.succeed("check", world.specs / "web.yaml")
    assert not world.root.exists() and not world.runtime.exists()


def bad(line: str) -> str:
    """A spec whose sixth line is `line`."""
    head = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: web}\nspec:\n"
    return f"{head}  command: [sleep, infinity]\n  {line}\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("healthCheks: []", ("6:3:", "healthCheks", "healthChecks")),
        ("resources: {limits: {memory: 64}}", ("6:", "memory", "64Mi")),
        ("killPolicy: {gracePeriod: 3}", ("6:", "gracePeriod", "3s")),
        ("command: [true]", ("6:3:", "command")),
        ("tty: 7", ("6:", "tty")),
        ("env: !secret x", ("6:", "env")),
        ("namespaces: {mount: host}", ("6:", "namespaces.mount")),
    ],
)
def test_check_tells_file_line_column_field_and_what_was_meant(
    user_world: World, line: str, told: tuple[str, ...]
) -> None:
    """Unknown field, no unit, duplicate key, wrong type, unknown tag, refused value."""
    path = user_world.write("web.yaml", bad(line))
    answer = user_world.reconciler("check", path)
    said = answer.stdout + answer.stderr
    assert answer.returncode == 1, said
    assert f"{path}:" in said, said
    for text in told:
        assert text in said, said


def test_check_tells_all_errors_of_a_file_at_once(user_world: World) -> None:
    """So that nobody repairs them one by one."""
    path = user_world.write("web.yaml", bad("tty: 7\n  hostnam: x\n  resources: {limits: {pids: lots}}"))
    answer = user_world.reconciler("check", path)
    said = answer.stdout + answer.stderr
    assert all(text in said for text in (":6:", ":7:", ":8:")), said


def test_a_second_agent_on_one_root_is_refused_with_3_and_the_firsts_pid(any_world: World) -> None:
    """The first does not notice."""
    any_world.write("web.yaml", sleeper("web"))
    with any_world.agent() as first:
        before = instance(any_world, "web")
        answer = any_world.reconciler("run", any_world.specs, timeout=20)
        assert answer.returncode == 3
        assert re.search(rf"\b{first.process.pid}\b", answer.stderr), answer.stderr
        not_restarted(any_world, before)


def test_destroy_of_a_name_that_a_live_agent_wants_is_refused(world: World) -> None:
    """It would come back at once; the refusal says what to do instead."""
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        before = instance(world, "web")
        answer = world.reconciler("destroy", "web")
        assert answer.returncode == 1, answer.stderr
        assert "web" in answer.stderr
        not_restarted(world, before)


def test_destroy_of_a_name_without_an_agent_takes_it_away(world: World) -> None:
    """And only it, with what is nested in it."""
    world.write("web.yaml", sleeper("web", containers=[{"name": "sub", "command": ["sleep", "infinity"]}]))
    world.write("db.yaml", sleeper("db"))
    world.apply()
    web, sub, db = (instance(world, name) for name in ("web", "web.sub", "db"))
    world.succeed("destroy", "web")
    gone(world, "web.sub", sub)
    gone(world, "web", web)
    not_restarted(world, db)


def test_destroy_all_stops_the_agent_and_takes_everything(any_world: World) -> None:
    """One second later neither keeper nor cgroup roots are left: the leak check follows this test too."""
    any_world.write("web.yaml", sleeper("web", containers=[{"name": "sub", "command": ["sleep", "infinity"]}]))
    agent = any_world.start().ready()
    before = instance(any_world, "web")
    any_world.succeed("destroy", "--all")
    assert agent.process.wait(5) == 0
    gone(any_world, "web", before)
    assert any_world.rows() == {}
    eventually(lambda: not any_world.keepers(), "the keeper is gone", within=1)


def test_destroy_all_with_nothing_there_is_fine(world: World) -> None:
    """Twice, too: it is idempotent."""
    world.succeed("destroy", "--all")
    world.succeed("destroy", "--all")


def test_the_keeper_goes_by_itself_when_the_last_container_went(any_world: World) -> None:
    """With the agent gone and nothing left, nothing of ours waits in the background."""
    any_world.write("web.yaml", sleeper("web"))
    with any_world.agent():
        web = instance(any_world, "web")
        assert len(any_world.keepers()) == 1
        any_world.delete("web.yaml")
        gone(any_world, "web", web)
    eventually(lambda: not any_world.keepers(), "the keeper is gone", within=1.5)


def test_global_options_may_stand_before_or_after_the_verb(world: World) -> None:
    """And the environment may give them instead."""
    world.write("web.yaml", sleeper("web"))
    world.apply()
    where = ("--root", world.root, "--runtime-dir", world.runtime)
    assert world.succeed(*where, "ps", "-o", "name", directories=False) == "web\n"
    assert world.succeed("ps", "-o", "name", *where, directories=False) == "web\n"


def test_inspect_is_json_with_everything_known(world: World) -> None:
    """The spec as it was normalised, and the row."""
    world.write("web.yaml", sleeper("web", "900001"))
    world.apply()
    found: Any = json.loads(world.succeed("inspect", "web"))
    assert "900001" in json.dumps(found)


def test_an_unknown_verb_and_a_missing_directory_are_told_without_a_traceback(world: World) -> None:
    """A user's mistake is a sentence."""
    for words in (("frobnicate",), ("apply", world.base / "no-such"), ("check", world.base / "no-such")):
        answer = world.reconciler(*words, timeout=20)
        assert answer.returncode not in (0, None), words
        assert "Traceback" not in answer.stderr, answer.stderr
