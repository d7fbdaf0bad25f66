"""What happened is told afterwards, with its cause; whoever asked is told at once."""

from __future__ import annotations

import json
import os
import signal

from tests.e2e.checks import eventually, gone, instance, restarted
from tests.e2e.world import World, sleeper

QUICK = {"initial": "100ms"}


def told(world: World, *names: str) -> list[dict[str, object]]:
    said = world.reconciler("events", "-o", "json", *names)
    assert said.returncode == 0, said.stderr
    return [json.loads(line) for line in said.stdout.splitlines()]


def test_the_life_of_a_container_can_be_read_afterwards(any_world: World) -> None:
    """Started, killed, brought back, taken away: each with its cause, in this order, without an agent."""
    file = any_world.write("web.yaml", sleeper("web", backoff=QUICK))
    with any_world.agent():
        before = instance(any_world, "web")
        os.kill(before.pid, signal.SIGKILL)
        after = restarted(any_world, before)
    types = [event["type"] for event in told(any_world, "web")]
    ended = types.index("Ended")
    assert types[0] == "Acting"
    assert types.index("Applied") < types.index("Started") < ended < len(types) - 1 - types[::-1].index("Started")
    kill = next(event for event in told(any_world, "web") if event["type"] == "Ended")
    assert "SIGKILL" in str(kill["message"])
    assert "acted" in any_world.succeed("why", "web")
    with any_world.agent():
        file.unlink()
        gone(any_world, "web", after)
    final = told(any_world, "web")
    assert [event["type"] for event in final][-2:] == ["Acting", "Destroyed"]
    assert str(file) in str(final[-2]["message"])


def test_an_agent_that_finds_all_as_it_was_tells_nothing_of_containers(world: World) -> None:
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        instance(world, "web")
    before = told(world, "web")
    with world.agent() as agent:
        agent.ready()
    assert told(world, "web") == before


def test_whoever_asked_is_told_of_transitions(world: World) -> None:
    out = world.base / "told"
    out.touch()
    script = world.base / "tell"
    script.write_text(f"#!/bin/sh\ncat >> {out}\n")
    script.chmod(0o755)
    with world.agent("--notify", str(script)):
        world.rename_in("job.yaml", sleeper("job", "0.1", restartPolicy="Never"))
        eventually(lambda: "Completed" in out.read_text(), "the end of the job is told")
    heard = [json.loads(line) for line in out.read_text().splitlines()]
    assert [event["to"] for event in heard if event["name"] == "job"][-1] == "Completed"
