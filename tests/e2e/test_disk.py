"""Disk space of sandboxes: what is over its limit is ended, or reported, under both launchers."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.checks import eventually, instance, not_restarted, plan_is_empty, state, until
from tests.e2e.world import World, document, sleeper

OFTEN = {"disk/du": {"interval": "1s"}}
REPORTED = {"disk/du": {"interval": "1s", "enforce": False}}
MIB = 1 << 20


def limited(amount: str) -> dict[str, object]:
    return {"limits": {"disk": amount}}


def fill(world: World, name: str, mebibytes: int) -> Path:
    file = world.sandbox(name) / "filled"
    file.write_bytes(bytes(mebibytes * MIB))
    return world.own(file)


def test_a_sandbox_over_its_limit_ends_its_container_and_no_other(any_world: World) -> None:
    """A nested one counts for itself and for its parent; one is raised in place."""
    world = any_world
    once = {"restartPolicy": "Never", "isolators": OFTEN}
    hog = {"name": "hog", "command": ["sleep", "infinity"], "resources": limited("4Mi"), **once}
    world.write("shop.yaml", sleeper("shop", resources=limited("30Mi"), containers=[hog], **once))
    world.write("told.yaml", sleeper("told", resources=limited("1Mi"), isolators=REPORTED))
    with world.agent():
        shop, told = instance(world, "shop"), instance(world, "told")
        fill(world, "told", 2)
        (world.sandbox("told") / "out").symlink_to("/usr")
        until(world, "told", lambda row: "reported only" in row["message"], "says so")
        fill(world, "shop.hog", 8)
        row = state(world, "shop.hog", "Failed")
        assert (row["exit"]["reason"], row["exit"]["signal"]) == ("DiskLimitExceeded", 15), row
        assert "takes 8196Ki of disk, more than resources.limits.disk: 4Mi" in row["message"], row
        not_restarted(world, shop)
        not_restarted(world, told)
        world.write("told.yaml", sleeper("told", resources=limited("64Mi"), isolators=REPORTED))
        until(world, "told", lambda row: "disk" not in row["message"], "is within its limit")
        not_restarted(world, told)
        stats = world.succeed("stats", "-o", "wide")
        assert "30Mi" in stats and "64Mi" in stats, stats
        plan_is_empty(world)
        fill(world, "shop", 30)
        assert state(world, "shop", "Failed")["exit"]["reason"] == "DiskLimitExceeded"
    eventually(lambda: not shop.alive, "its process is gone")


def test_why_it_is_ended_outlives_the_agent(world: World) -> None:
    """One that takes its time to end, and exits with 0: it failed all the same."""
    line = (
        "trap 'while [ ! -e go ]; do sleep 0.1; done; exit 0' TERM; head -c 9000000 /dev/zero > big; sleep 99999 & wait"
    )
    policy = {"killPolicy": {"gracePeriod": "60s"}, "restartPolicy": "OnFailure", "backoff": {"initial": "1m"}}
    world.write("slow.yaml", document("slow", shell=line, resources=limited("1Mi"), isolators=OFTEN, **policy))
    agent = world.start().ready()
    record = world.runtime / "containers" / "slow" / "limitation.json"
    eventually(record.exists, "it is to end")
    agent.kill()
    with world.agent():
        assert world.row("slow")["status"] == "Running"  # type: ignore[index]
        (world.sandbox("slow") / "go").touch()
        row = until(world, "slow", lambda row: row["exit"], "has ended")
        assert (row["exit"]["reason"], row["exit"]["code"]) == ("DiskLimitExceeded", 0)
        assert "restarting" in row["message"], row


def test_an_isolator_that_is_not_there_or_an_option_it_has_not_is_said_before_anything_runs(world: World) -> None:
    isolators = {"disk/du": {"intervall": "1s", "enforce": "yes"}, "disk/ssd": {}}
    world.write("web.yaml", sleeper("web", isolators=isolators))
    answer = world.reconciler("check", world.specs)
    assert answer.returncode == 1 and "isolators.disk/du.intervall: there is no such option" in answer.stderr
    assert "disk/ssd" not in answer.stderr, "which another host may have"
    answer = world.reconciler("plan", world.specs)
    told = answer.stdout + answer.stderr
    assert "isolators.disk/du.intervall: there is no such option; there are: enforce, interval" in told, told
    assert "isolators.disk/du.enforce: 'yes' must be true or false" in told
    assert "isolators.disk/ssd: no such isolator is enabled; there are:" in told and "posix/rlimits" in told
    world.apply(code=1)
    assert world.row("web")["status"] == "Blocked"  # type: ignore[index]
