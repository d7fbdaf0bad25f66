"""History and rollback: back to what ran well, for as long as the file is left as it is."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.checks import gone, instance, message_contains, not_restarted, plan_is_empty, restarted, state, until
from tests.e2e.world import World, document, sleeper
from tests.git import Upstream

BAD = document("web", command=["false"])


def history(world: World, name: str = "web") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(world.succeed("history", name, "-o", "json"))
    return found


def test_back_from_a_bad_edit_across_agents_until_the_next_edit(world: World) -> None:
    """Edit, bad edit, rollback, another agent, next edit; the file is never touched."""
    world.write("web.yaml", sleeper("web", "820001"))
    agent = world.start().ready()
    first = instance(world, "web")
    world.write("web.yaml", sleeper("web", "820002"))
    restarted(world, first, by="command")
    file = world.write("web.yaml", BAD)
    until(world, "web", lambda row: row["status"] in ("Starting", "CrashLoop"), "fails")
    world.succeed("rollback", "web")
    back = instance(world, "web")
    assert "set aside" in message_contains(world, "web", "rolled back to revision 2")["message"]
    assert file.read_text() == BAD
    shown = [(one["revision"], one["inForce"], one["setAside"]) for one in history(world)]
    assert shown == [(1, False, False), (2, True, False), (3, False, True)]
    assert history(world)[1]["changes"] == ["command changed: [sleep, 820001] → [sleep, 820002]"]
    plan_is_empty(world)
    agent.kill()
    assert "rolled back to revision 2" in world.succeed("why", "web")
    agent = world.start().ready()
    world.apply()
    not_restarted(world, back)
    world.write("web.yaml", sleeper("web", "820004"))
    restarted(world, back, by="command")
    until(world, "web", lambda row: "rolled back" not in row["message"], "is as its file says")
    assert [one["revision"] for one in history(world) if one["inForce"]] == [4]
    told = world.succeed("events", "web")
    assert "RolledBack" in told and "RollbackEnded" in told
    world.delete("web.yaml")
    gone(world, "web", back)
    world.succeed("history", "web", code=4)


def test_without_an_agent_the_next_apply_carries_it_out_and_off_takes_it_back(world: World) -> None:
    world.write("web.yaml", sleeper("web", "820011"))
    world.apply()
    world.write("web.yaml", sleeper("web", "820012"))
    world.apply()
    before = instance(world, "web")
    world.succeed("rollback", "web", "--to", "7", code=1)
    world.succeed("rollback", "nobody", code=4)
    world.succeed("rollback", "web", "--to", "1")
    message_contains(world, "web", "rolled back to revision 1")
    not_restarted(world, before)
    world.apply()
    back = restarted(world, before)
    plan_is_empty(world)
    world.succeed("rollback", "web", "--off")
    world.apply()
    restarted(world, back)
    assert "rolled back" not in state(world, "web", "Running")["message"]


def test_a_commit_is_rolled_back(world: World) -> None:
    """The row has the commit of the revision that is in force."""
    upstream = Upstream(world.base)
    upstream.write("web.yaml", sleeper("web", "820021"))
    first = upstream.push("good")
    world.start("--poll-interval", "200ms", source=upstream.url).ready()
    before = instance(world, "web")
    upstream.write("web.yaml", sleeper("web", "820022"))
    second = upstream.push("bad")
    after = restarted(world, before, by="command")
    world.succeed("rollback", "web")
    restarted(world, after, by="command")
    until(world, "web", lambda row: row["commit"]["id"] == first, "has the earlier commit")
    assert [one["commit"]["id"] for one in history(world)] == [first, second]
