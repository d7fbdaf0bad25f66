"""A newer release of reconciler takes over from an older one, and nothing notices."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import instance, not_restarted, plan_is_empty, restarted
from tests.e2e.world import CHECKOUT, World, sleeper

WEB = {"name": "web", "command": ["sleep", "infinity"], "backoff": {"initial": "100ms"}}
RECORDED = CHECKOUT / "tests" / "fixtures" / "recorded" / "0.1.0"


@pytest.mark.root
def test_another_release_of_the_agent_restarts_nothing(world: World, user_command: Path) -> None:
    """Code from elsewhere: its agent and, in its place, its keeper; nothing is to be done, and what dies comes back."""
    world.write("shop.yaml", sleeper("shop", containers=[WEB]))
    with world.agent():
        before = [instance(world, name) for name in ("shop", "shop.web")]
        keeper = world.keepers()
    world.command = user_command
    with world.agent():
        plan_is_empty(world)
        for each in before:
            not_restarted(world, each)
        assert [each.pid for each in world.keepers()] == [each.pid for each in keeper]
        assert "could not be upgraded" not in world.succeed("status")
        os.kill(before[1].pid, signal.SIGKILL)
        restarted(world, before[1])


def as_first_recorded(world: World, name: str) -> None:
    """The record as the first release wrote it, with the life that it has had here."""
    old = json.loads((RECORDED / "root" / name / "record.json").read_text().replace("SPECS", str(world.specs)))
    path = world.root / "containers" / name / "record.json"
    path.write_text(json.dumps(old | {"life": json.loads(path.read_text())["life"]}))


def as_first_checkpointed(world: World, name: str) -> None:
    """In version 1 of the form: who the payload is was a step of its own, and no kill had a time."""
    path = world.runtime / "containers" / name / "run.json"
    run = json.loads(path.read_text())
    plan: dict[str, Any] = run["plan"]
    user = [{**step, "op": "user"} for step in plan["payload_steps"] if step["op"] == "credentials"]
    steps = {"steps": [*plan["steps"], *user]}
    plan = {key: plan[key] for key in plan.keys() - {"payload_steps", "init_steps", "files"}} | steps
    path.write_text(json.dumps({key: run[key] for key in run.keys() - {"kill_at"}} | {"version": 1, "plan": plan}))


@pytest.mark.root
@pytest.mark.cgroup
def test_what_the_first_release_recorded_is_taken_over_without_a_restart(world: World) -> None:
    """Its records say less, and its checkpoints are of another form; `exec` still gives no more than the spec does."""
    shutil.copy(RECORDED / "shop.yaml", world.specs)
    names = ["shop", "shop.web", "shop.log"]
    agent = world.start().ready()
    before = [instance(world, name) for name in names]
    agent.kill()
    for name in names:
        as_first_recorded(world, name)
        as_first_checkpointed(world, name)
    with world.agent():
        plan_is_empty(world)
        for each in before:
            not_restarted(world, each)
        held = ["exec", "shop", "--", "grep", "-E", "^(CapBnd|NoNewPrivs)", "/proc/self/status"]
        assert world.succeed(*held) == status_of(before[0].pid)
        os.kill(before[1].pid, signal.SIGKILL)
        restarted(world, before[1])
        plan_is_empty(world)


def status_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(("CapBnd", "NoNewPrivs")))
