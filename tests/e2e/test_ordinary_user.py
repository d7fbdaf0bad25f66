"""Without root: the posix launcher, and it says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import processes
from tests.e2e.checks import instance, message_contains, not_restarted, payload, restarted, running, state
from tests.e2e.conftest import live, ordinary
from tests.e2e.world import World, document, sleeper


@pytest.fixture
def home(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    """A user who names no directories: state and runtime directory are found by the XDG rules."""

    def make() -> World:
        world = ordinary(request, nursery, named=False)
        (world.base / "x").mkdir(mode=0o700)
        world.own(world.base / "x")
        world.root, world.runtime = world.base / "reconciler", world.base / "x" / "reconciler"
        return world

    yield from live(request.node, make)


def test_the_agent_says_that_it_is_on_the_posix_launcher(user_world: World) -> None:
    """And why: nobody should wonder where the namespaces are."""
    user_world.write("web.yaml", sleeper("web"))
    with user_world.agent() as agent:
        state(user_world, "web", "Running")
        assert "posix" in agent.log()
    assert "posix" in user_world.succeed("doctor")


def test_state_and_runtime_directories_are_found_by_the_xdg_rules(home: World) -> None:
    """No option is needed."""
    home.write("web.yaml", sleeper("web"))
    home.apply()
    state(home, "web", "Running")
    assert (home.root / "containers" / "web" / "record.json").exists()
    assert (home.runtime / "rows" / "web.json").exists()


@pytest.mark.parametrize(
    "spec",
    [
        {"namespaces": {"network": "private"}},
        {"namespaces": {"pid": "private"}},
        {"hostname": "me"},
        {"resources": {"limits": {"memory": "64Mi"}}},
        {"resources": {"limits": {"pids": 10}}},
    ],
    ids=["network", "pid", "hostname", "memory", "pids"],
)
def test_what_the_spec_names_and_the_launcher_cannot_give_is_blocked(
    user_world: World, spec: dict[str, object]
) -> None:
    """Never silently weaker than what was asked for."""
    user_world.write("web.yaml", document("web", command=["sleep", "910001"], **spec))
    user_world.apply(code=1)
    row = state(user_world, "web", "Blocked")
    assert row["reason"] == "NotOnThisLauncher"
    assert row["message"]
    assert running(user_world, ["sleep", "910001"]) == 0


def test_what_is_left_unset_is_shared_with_the_host_and_told(user_world: World) -> None:
    """The payload runs in the host's namespaces, and `status` says so."""
    user_world.write("web.yaml", sleeper("web", "910002"))
    user_world.apply()
    pid = payload(user_world, "web", ["sleep", "910002"]).pid
    for kind in processes.NAMESPACES:
        assert processes.namespace(pid, kind) == processes.namespace("self", kind), kind
    assert "shares the host's" in user_world.succeed("status", "web")


def test_what_a_payload_double_forked_away_ends_with_its_container(user_world: World) -> None:
    """The init is a subreaper: its descendants stay attributable."""
    user_world.write("web.yaml", document("web", shell="setsid sh -c 'sleep 910003 & exit' & exec sleep infinity"))
    with user_world.agent():
        instance(user_world, "web")
        user_world.delete("web.yaml")
    user_world.succeed("destroy", "--all")
    assert running(user_world, ["sleep", "910003"]) == 0


@pytest.mark.root
def test_root_may_choose_the_posix_launcher(
    nursery: processes.Nursery, request: pytest.FixtureRequest, world: World
) -> None:
    """No namespace and no cgroup is made then."""
    world.flags = ("--launcher", "posix")
    world.write("web.yaml", sleeper("web"))
    world.apply()
    first = instance(world, "web").pid
    assert processes.namespace(first, "pid") == processes.namespace("self", "pid")
    assert not [path for path in world.cgroup_paths() if path.endswith("/web")]


def test_an_edit_that_this_launcher_cannot_give_leaves_the_running_one_alone(user_world: World) -> None:
    """The last good version goes on, and says what stands against the new one."""
    user_world.write("web.yaml", sleeper("web"))
    with user_world.agent():
        before = instance(user_world, "web")
        user_world.write("web.yaml", sleeper("web", hostname="other"))
        message_contains(user_world, "web", "posix launcher")
        not_restarted(user_world, before)
        user_world.write("web.yaml", sleeper("web", env={"NEW": "1"}))
        restarted(user_world, before, by="env")
