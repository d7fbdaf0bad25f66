"""A file that appears in the directory is a container that runs."""

from __future__ import annotations

import pytest

from tests.e2e.checks import (
    eventually,
    instance,
    namespace_shared,
    not_restarted,
    payload,
    restarted,
    running,
    state,
)
from tests.e2e.world import World, document, sleeper


def test_a_file_that_was_there_before_the_agent_runs_when_it_is_ready(world: World) -> None:
    """`ready` means that each name has been tried: no polling is needed after it."""
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        assert world.rows()["web"]["status"] == "Running"


def test_a_file_written_into_the_directory_starts_its_container(any_world: World) -> None:
    """Dropping a file with `cp` is all a user does."""
    with any_world.agent():
        any_world.write("web.yaml", sleeper("web", "100001"))
        state(any_world, "web", "Running")
        payload(any_world, "web", ["sleep", "100001"])


def test_a_file_renamed_into_the_directory_starts_its_container_once(world: World) -> None:
    """The way Git and configuration tools write files."""
    with world.agent():
        world.rename_in("web.yaml", sleeper("web", "100002"))
        state(world, "web", "Running")
        eventually(lambda: running(world, ["sleep", "100002"]) == 1, "one payload runs")
        assert world.rows()["web"]["restarts"] == 0


def test_a_file_renamed_in_right_after_another_was_renamed_out_is_acted_on_at_once(world: World) -> None:
    """Inotify's pairing of renames must not delay the second file: well below the periodic listing's 2 s."""
    world.write("old.yaml", sleeper("old"))
    with world.agent():
        state(world, "old", "Running")
        world.rename_out("old.yaml")
        world.rename_in("new.yaml", sleeper("new"))
        state(world, "new", "Running", within=1.0)


def test_a_file_in_a_subdirectory_counts_and_a_dot_file_does_not(world: World) -> None:
    """Sources: subdirectories yes, names that begin with a dot no."""
    world.write("team/web.yml", sleeper("web"))
    world.write(".hidden.yaml", sleeper("hidden"))
    world.write("notes.txt", "not a spec")
    with world.agent():
        state(world, "web", "Running")
        assert set(world.rows()) == {"web"}


def test_a_subdirectory_made_while_the_agent_runs_is_watched(world: World) -> None:
    """A new directory's files are found, at the next full listing at the latest."""
    with world.agent():
        world.write("late/web.yaml", sleeper("web"))
        state(world, "web", "Running")


def test_one_file_may_hold_many_containers(world: World) -> None:
    """Documents are separated as YAML separates them."""
    world.write("all.yaml", "---\n".join(sleeper(name) for name in ("one", "two", "three")))
    with world.agent():
        for name in ("one", "two", "three"):
            state(world, name, "Running")


def test_a_pod_appears_with_its_nested_containers_below_it(any_world: World) -> None:
    """Nested names are dotted, and each has a parent, a pid and a row of its own."""
    nested = [{"name": "web", "command": ["sleep", "infinity"]}, {"name": "log", "command": ["sleep", "infinity"]}]
    any_world.write("shop.yaml", sleeper("shop", containers=nested))
    with any_world.agent():
        pids = {instance(any_world, name).pid for name in ("shop", "shop.web", "shop.log")}
        assert len(pids) == 3
        assert any_world.rows()["shop.web"]["parent"] == "shop"


@pytest.mark.root
def test_a_holder_without_a_command_keeps_its_children_together(world: World) -> None:
    """A container without a command exists to hold the namespaces that its nested ones share."""

    def pod(seconds: str) -> str:
        return document("pod", hostname="pod", containers=[{"name": "only", "command": ["sleep", seconds]}])

    world.write("pod.yaml", pod("100003"))
    with world.agent():
        parent, child = instance(world, "pod"), instance(world, "pod.only")
        namespace_shared(world, "pod.only", "pod", "uts")
        world.rename_in("pod.yaml", pod("100004"))
        restarted(world, child)
        not_restarted(world, parent)
