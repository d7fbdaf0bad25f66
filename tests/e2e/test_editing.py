"""An edited file changes what runs: in place where that is possible, by exactly one restart where not."""

from __future__ import annotations

import pytest

from tests.e2e.checks import (
    eventually,
    instance,
    limit,
    limited,
    message_contains,
    not_restarted,
    payload,
    plan_is_empty,
    restarted,
    running,
    state,
)
from tests.e2e.world import World, document, sleeper


def test_editing_the_command_replaces_the_container(any_world: World) -> None:
    """Another pid, the new command, never two at once, and the cause named."""
    any_world.write("web.yaml", sleeper("web", "200001"))
    with any_world.agent():
        before = instance(any_world, "web")
        payload(any_world, "web", ["sleep", "200001"])
        any_world.rename_in("web.yaml", sleeper("web", "200002"))
        restarted(any_world, before, by="command")
        payload(any_world, "web", ["sleep", "200002"])
        assert running(any_world, ["sleep", "200001"]) == 0


def test_a_changed_spec_is_a_new_generation_without_restarts(world: World) -> None:
    """`restarts` counts the starts of this generation after its first."""
    world.write("web.yaml", sleeper("web", "200003"))
    with world.agent():
        before = instance(world, "web")
        generation = world.rows()["web"]["generation"]
        world.rename_in("web.yaml", sleeper("web", "200004"))
        restarted(world, before)
        row = world.rows()["web"]
        assert (row["generation"], row["restarts"]) == (generation + 1, 0)


def test_editing_the_environment_replaces_only_that_container(world: World) -> None:
    """Its neighbour in another file is left alone."""
    world.write("web.yaml", sleeper("web", env={"MODE": "a"}))
    world.write("db.yaml", sleeper("db"))
    with world.agent():
        web, db = instance(world, "web"), instance(world, "db")
        world.rename_in("web.yaml", sleeper("web", env={"MODE": "b"}))
        restarted(world, web)
        not_restarted(world, db)


@pytest.mark.parametrize(
    "edit",
    [
        {"labels": {"tier": "back"}},
        {"restartPolicy": "OnFailure"},
        {"backoff": {"initial": "3s"}},
        {"killPolicy": {"gracePeriod": "1s"}},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_what_only_we_read_changes_without_a_restart(world: World, edit: dict[str, object]) -> None:
    """Labels and policies are ours: the process does not notice."""
    world.write("web.yaml", sleeper("web", labels={"tier": "front"}))
    with world.agent():
        before = instance(world, "web")
        digest = world.rows()["web"]["digest"]
        spec = {"labels": {"tier": "front"}, "command": ["sleep", "infinity"]} | edit
        world.rename_in("web.yaml", document("web", **spec))
        eventually(lambda: world.rows()["web"]["digest"] != digest, "the new spec is recorded")
        not_restarted(world, before)
        plan_is_empty(world)


def test_comments_key_order_and_the_files_name_change_nothing(world: World) -> None:
    """Identity is the name, and a spec is what it means."""
    world.write("web.yaml", sleeper("web", env={"A": "1", "B": "2"}))
    with world.agent():
        before = instance(world, "web")
        world.rename_in("web.yaml", "# a comment\n" + sleeper("web", env={"B": "2", "A": "1"}))
        (world.specs / "web.yaml").rename(world.specs / "moved.yaml")
        source = world.specs / "moved.yaml"
        eventually(lambda: world.rows()["web"]["source"].startswith(str(source)), "the row names the new file")
        not_restarted(world, before)


@pytest.mark.root
@pytest.mark.cgroup
def test_limits_are_raised_and_lowered_in_place(world: World) -> None:
    """What the cgroup says is exactly what the file says, and the process stays."""

    def spec(cpus: float, memory: str, pids: int) -> str:
        return sleeper("web", resources={"limits": {"cpus": cpus, "memory": memory, "pids": pids}})

    world.write("web.yaml", spec(0.5, "64Mi", 32))
    with world.agent():
        before = instance(world, "web")
        for cpus, memory, pids in ((0.5, 64, 32), (1.5, 128, 64), (0.25, 48, 16)):
            world.rename_in("web.yaml", spec(cpus, f"{memory}Mi", pids))
            limited(world, "web", str(memory << 20), "memory.limit_in_bytes", "memory.max")
            limited(world, "web", str(pids), "pids.max")
            limited(world, "web", str(int(cpus * 100_000)), "cpu.cfs_quota_us", "cpu.max")
        not_restarted(world, before)


@pytest.mark.root
@pytest.mark.cgroup
def test_removing_a_limit_lifts_it_in_place(world: World) -> None:
    """No limit in the file means no limit in the cgroup."""
    world.write("web.yaml", sleeper("web", resources={"limits": {"pids": 32}}))
    with world.agent():
        before = instance(world, "web")
        limited(world, "web", "32", "pids.max")
        world.rename_in("web.yaml", sleeper("web"))
        limited(world, "web", "max", "pids.max")
        not_restarted(world, before)


@pytest.mark.root
@pytest.mark.cgroup
def test_a_memory_limit_below_present_usage_is_not_forced(world: World) -> None:
    """The old limit stays, the process lives, and the message gives both figures."""
    fill = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); exec 9>&1; while :; do sleep 1000; done"
    world.write("web.yaml", document("web", shell=fill, resources={"limits": {"memory": "256Mi"}}))
    with world.agent():
        before = instance(world, "web")
        used = ("memory.usage_in_bytes", "memory.current")
        eventually(lambda: int(limit(world, "web", *used)) > 40_000_000, "40 MB are in use")
        world.rename_in("web.yaml", document("web", shell=fill, resources={"limits": {"memory": "16Mi"}}))
        message_contains(world, "web", "16")
        limited(world, "web", str(256 << 20), "memory.limit_in_bytes", "memory.max")
        not_restarted(world, before)


def test_what_a_launch_would_not_find_ends_nothing(world: World) -> None:
    """A host path, a root, a device or a user that is not there: the version that runs goes on, and the reason is told,
    by `plan` too."""
    source = world.aside / "data"
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        before = instance(world, "web")
        for spec, why in (
            ({"rootfs": "/no/such/root"}, "/no/such/root"),
            ({"user": "nobody-knows"}, "nobody-knows"),
            ({"devices": [{"path": "/dev/no-such-device"}]}, "/dev/no-such-device"),
            ({"volumes": [{"type": "hostPath", "source": str(source), "target": "data"}]}, str(source)),
        ):
            world.rename_in("web.yaml", sleeper("web", **spec))
            message_contains(world, "web", why)
            not_restarted(world, before)
            planned = world.reconciler("plan", world.specs)
            assert (planned.returncode, planned.stdout) == (1, ""), planned
            assert "web.yaml:" in planned.stderr and why in planned.stderr
        source.mkdir()
        restarted(world, before)


def test_editing_a_nested_container_restarts_it_alone(any_world: World) -> None:
    """Its parent and its sibling keep their processes."""

    def pod(seconds: str) -> str:
        nested = [{"name": "a", "command": ["sleep", seconds]}, {"name": "b", "command": ["sleep", "infinity"]}]
        return sleeper("shop", containers=nested)

    any_world.write("shop.yaml", pod("200005"))
    with any_world.agent():
        parent, a, b = (instance(any_world, name) for name in ("shop", "shop.a", "shop.b"))
        any_world.rename_in("shop.yaml", pod("200006"))
        restarted(any_world, a, by="command")
        not_restarted(any_world, parent)
        not_restarted(any_world, b)


def test_editing_a_parent_restarts_its_tree(world: World) -> None:
    """The children live in namespaces that their parent owns."""

    def pod(seconds: str) -> str:
        return sleeper("shop", seconds, containers=[{"name": "a", "command": ["sleep", "infinity"]}])

    world.write("shop.yaml", pod("200007"))
    with world.agent():
        parent, child = instance(world, "shop"), instance(world, "shop.a")
        world.rename_in("shop.yaml", pod("200008"))
        restarted(world, parent)
        restarted(world, child)


def test_many_quick_edits_end_with_the_last_one(world: World) -> None:
    """Ten versions in a burst: exactly one instance, of the last version."""
    with world.agent():
        for number in range(10):
            world.rename_in("web.yaml", sleeper("web", f"2001{number:02d}"))
        eventually(lambda: running(world, ["sleep", "200109"]) == 1, "the last version runs")
        state(world, "web", "Running")
        assert [running(world, ["sleep", f"2001{number:02d}"]) for number in range(10)] == [0] * 9 + [1]
