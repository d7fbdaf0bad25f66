"""Health checks as a user meets them: ready or not, restarted with the cause told, and nothing left of a check."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.checks import eventually, instance, message_contains, not_restarted, restarted, running, state, until
from tests.e2e.world import World, document

QUICK = {"delay": "0s", "interval": "200ms", "gracePeriod": "0s", "timeout": "5s"}


def check(**fields: Any) -> dict[str, Any]:
    return {**QUICK, **fields}


@pytest.mark.root
@pytest.mark.cgroup
def test_a_container_whose_http_check_turns_bad_is_started_again_and_why_tells(world: World) -> None:
    """In a private network: the host has nothing on that port. It starts slowly, and is not judged before."""
    slow = "sleep 1; echo ok > index.html; exec busybox httpd -f -p 18481"
    page = check(name="page", http={"port": 18481, "path": "/index.html"})
    up = check(role="startup", tcp={"port": 18481}, gracePeriod="30s")
    spec = {"namespaces": {"network": "private"}, "backoff": {"initial": "100ms"}, "restartPolicy": "OnFailure"}
    world.write("web.yaml", document("web", shell=slow, healthChecks=[page, up], **spec))
    with world.agent():
        assert "startup check tcp :18481" in until(world, "web", lambda row: row["pid"], "it runs")["message"]
        world.succeed("wait", "web", "--for", "ready", "--timeout", "20s")
        before = instance(world, "web")
        assert world.rows()["web"]["restarts"] == 0
        (world.sandbox("web") / "index.html").unlink()
        restarted(world, before)
        row = message_contains(world, "web", "liveness check page: http GET :18481/index.html -> 404")
        assert row["exit"]["reason"] == "Unhealthy"
        assert "-> 404, 3 times in a row" in world.succeed("why", "web")
        world.succeed("wait", "web", "--for", "ready", "--timeout", "20s")
        assert "liveness page: http GET :18481/index.html -> 200" in world.succeed("status", "web")


def test_readiness_flips_with_what_a_command_in_it_says(any_world: World) -> None:
    """Not ready, ready, not ready again, and never restarted; changing the checks restarts nothing either."""
    there = check(role="readiness", command=["test", "-e", "there"], consecutiveFailures=1)
    any_world.write("web.yaml", document("web", command=["sleep", "infinity"], healthChecks=[there]))
    with any_world.agent():
        message_contains(any_world, "web", "test", "exited with code 1")
        assert any_world.rows()["web"]["ready"] is False
        any_world.apply("--timeout", "500ms", code=1)
        flag = any_world.sandbox("web") / "there"
        flag.touch()
        any_world.apply("--timeout", "20s")
        assert state(any_world, "web", "Running")["ready"] is True
        before = instance(any_world, "web")
        flag.unlink()
        assert state(any_world, "web", "Unhealthy")["ready"] is False
        any_world.write("web.yaml", document("web", command=["sleep", "infinity"]))
        until(any_world, "web", lambda row: row["ready"], "ready, for nothing is checked any more")
        not_restarted(any_world, before)
        assert any_world.rows()["web"]["restarts"] == 0


def test_an_agent_killed_during_a_check_leaves_nothing_of_it_and_the_next_one_believes(any_world: World) -> None:
    """The hanging check ends with the agent; the container does not notice, and stays ready."""
    quick = check(role="readiness", command=["true"])
    slow = check(command=["sh", "-c", "setsid sleep 410003 & sleep 410003"], timeout="1h")
    any_world.write("web.yaml", document("web", command=["sleep", "infinity"], healthChecks=[quick, slow]))
    agent = any_world.start().ready()
    any_world.succeed("wait", "web", "--for", "ready", "--timeout", "20s")
    before = instance(any_world, "web")
    eventually(lambda: running(any_world, ["sleep", "410003"]) == 2, "the check and its child run")
    agent.kill()
    eventually(lambda: running(any_world, ["sleep", "410003"]) == 0, "nothing of the check is left")
    assert any_world.rows()["web"]["ready"] is True
    with any_world.agent():
        eventually(lambda: running(any_world, ["sleep", "410003"]) == 2, "checks begin anew")
        assert any_world.rows()["web"]["ready"] is True
        not_restarted(any_world, before)
        assert "NotReady" not in any_world.succeed("events", "web")


@pytest.mark.root
@pytest.mark.cgroup
def test_a_second_apply_of_what_is_ready_writes_nothing_about_it(world: World) -> None:
    world.write(
        "web.yaml",
        document(
            "web",
            command=["sleep", "infinity"],
            healthChecks=[check(role="readiness", command=["true"]), check(command=["true"])],
        ),
    )
    world.apply()
    row = world.runtime / "rows" / "web.json"
    before = (row.stat().st_mtime_ns, world.succeed("events", "web"))
    began = time.monotonic()
    world.apply()
    assert time.monotonic() - began < 10
    assert (row.stat().st_mtime_ns, world.succeed("events", "web")) == before
