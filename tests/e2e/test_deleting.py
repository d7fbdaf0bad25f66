"""A file that disappears takes its container away, and only its own."""

from __future__ import annotations

import time

from tests.e2e.checks import eventually, gone, instance, not_restarted, running, state, until
from tests.e2e.world import World, document, sleeper

STUBBORN = "trap '' TERM; exec sleep {}"


def test_deleting_the_file_destroys_the_container(any_world: World) -> None:
    """No process, cgroup, record, sandbox or log is left; the neighbour stays."""
    any_world.write("web.yaml", sleeper("web"))
    any_world.write("db.yaml", sleeper("db"))
    with any_world.agent():
        web, db = instance(any_world, "web"), instance(any_world, "db")
        any_world.delete("web.yaml")
        gone(any_world, "web", web)
        not_restarted(any_world, db)


def test_a_file_renamed_out_of_the_directory_destroys_its_container(world: World) -> None:
    """Moving away is deleting."""
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        web = instance(world, "web")
        world.rename_out("web.yaml")
        gone(world, "web", web)


def test_deleting_a_pod_destroys_every_nested_container(any_world: World) -> None:
    """The tree goes as a whole."""
    inner = {"name": "leaf", "command": ["sleep", "infinity"]}
    nested = [{"name": "mid", "command": ["sleep", "infinity"], "containers": [inner]}]
    any_world.write("shop.yaml", sleeper("shop", containers=nested))
    with any_world.agent():
        tree = [instance(any_world, name) for name in ("shop", "shop.mid", "shop.mid.leaf")]
        any_world.delete("shop.yaml")
        for each in reversed(tree):
            gone(any_world, each.name, each)


def test_removing_one_nested_container_leaves_the_rest(world: World) -> None:
    """Its parent and siblings are not restarted."""
    nested = [{"name": name, "command": ["sleep", "infinity"]} for name in ("a", "b")]
    world.write("shop.yaml", sleeper("shop", containers=nested))
    with world.agent():
        parent, a, b = (instance(world, name) for name in ("shop", "shop.a", "shop.b"))
        world.rename_in("shop.yaml", sleeper("shop", containers=nested[:1]))
        gone(world, "shop.b", b)
        not_restarted(world, parent)
        not_restarted(world, a)


def test_a_container_is_asked_first_and_killed_when_its_grace_is_over(any_world: World) -> None:
    """A payload that ignores SIGTERM is Stopping for its grace period, then gone."""
    spec = document("web", shell=STUBBORN.format(300001), killPolicy={"gracePeriod": "1s"})
    any_world.write("web.yaml", spec)
    with any_world.agent():
        web = instance(any_world, "web")
        eventually(lambda: running(any_world, ["sleep", "300001"]) == 1, "the payload ignores SIGTERM by now")
        began = time.monotonic()
        any_world.delete("web.yaml")
        state(any_world, "web", "Stopping")
        gone(any_world, "web", web)
        assert 0.9 < time.monotonic() - began < 5


def test_a_payload_that_cleans_up_at_its_signal_is_given_the_time(world: World) -> None:
    """The kill policy's signal arrives, and what the payload does then is done."""
    shell = f"trap 'echo bye >{world.aside}/bye; exit 0' USR1; echo up >up; while :; do sleep 0.05; done"
    world.write("web.yaml", document("web", shell=shell, killPolicy={"signal": "SIGUSR1", "gracePeriod": "10s"}))
    with world.agent():
        web = instance(world, "web")
        up = world.sandbox("web") / "up"
        eventually(up.exists, "the trap is set")
        world.delete("web.yaml")
        gone(world, "web", web)
        assert (world.aside / "bye").read_text() == "bye\n"


def test_a_file_put_back_while_its_container_stops_ends_as_exactly_one_new_instance(any_world: World) -> None:
    """Never two at once, whatever the moment; the one at the end is new."""
    spec = document("web", shell=STUBBORN.format(300002), killPolicy={"gracePeriod": "2s"})
    any_world.write("web.yaml", spec)
    with any_world.agent():
        before = instance(any_world, "web")
        eventually(lambda: running(any_world, ["sleep", "300002"]) == 1, "the payload ignores SIGTERM by now")
        any_world.delete("web.yaml")
        state(any_world, "web", "Stopping")
        any_world.rename_in("web.yaml", spec)
        most = [1]

        def replaced(row: dict[str, object]) -> bool:
            most.append(running(any_world, ["sleep", "300002"]))
            return row["status"] == "Running" and row["pid"] not in (None, before.pid)

        until(any_world, "web", replaced, "runs as a new instance")
        eventually(lambda: running(any_world, ["sleep", "300002"]) == 1, "exactly one payload runs")
        assert max(most) == 1
        assert not before.alive
