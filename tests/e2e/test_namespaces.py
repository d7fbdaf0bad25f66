"""Every row of the namespace table, as /proc/PID/ns has it, for top-level containers and at depth 1 and 2.

One world holds a container per cell; the tests only compare inodes. What a row does not allow is
refused by `check` with a reason.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.e2e.checks import Row, instance, namespace_private, namespace_shared, not_restarted, plan_is_empty
from tests.e2e.conftest import live
from tests.e2e.world import World, document, sleeper

NS_GET_PARENT = 0xB702  # linux/nsfs.h
SLEEP = ["sleep", "infinity"]

# name → the spec's own part, then kind → who it shares that namespace with ("" for nobody)
TOP: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "plain": ({}, {"mount": "", "pid": "", "network": "host", "uts": "host", "ipc": "", "cgroup": "", "user": "host"}),
    "pid-private": ({"namespaces": {"pid": "private"}}, {"pid": ""}),
    "pid-host": ({"namespaces": {"pid": "host"}}, {"pid": "host", "mount": ""}),
    "net-host": ({"namespaces": {"network": "host"}}, {"network": "host", "uts": "host"}),
    "net-private": ({"namespaces": {"network": "private"}}, {"network": "", "uts": ""}),
    "uts-host": ({"namespaces": {"uts": "host"}}, {"uts": "host"}),
    "uts-private": ({"namespaces": {"uts": "private"}}, {"uts": "", "network": "host"}),
    "uts-name": ({"hostname": "shop"}, {"uts": "", "network": "host"}),
    "ipc-private": ({"namespaces": {"ipc": "private"}}, {"ipc": ""}),
    "ipc-host": ({"namespaces": {"ipc": "host"}}, {"ipc": "host"}),
    "cgroup-private": ({"namespaces": {"cgroup": "private"}}, {"cgroup": ""}),
    "cgroup-host": ({"namespaces": {"cgroup": "host"}}, {"cgroup": "host"}),
    "user-host": ({"namespaces": {"user": "host"}}, {"user": "host"}),
    "user-private": ({"namespaces": {"user": "private"}}, {"user": "", "network": "host", "uts": "host", "mount": ""}),
    "user-and-network": ({"namespaces": {"user": "private", "network": "private"}}, {"user": "", "network": ""}),
    "mount-private": ({"namespaces": {"mount": "private"}}, {"mount": ""}),
}
NESTED: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "plain": (
        {},
        {"mount": "", "pid": "", "network": "up", "uts": "up", "ipc": "", "cgroup": "up", "user": "up"},
    ),
    "pid-private": ({"namespaces": {"pid": "private"}}, {"pid": ""}),
    "pid-parent": ({"namespaces": {"pid": "parent"}}, {"pid": "up", "mount": "", "ipc": ""}),
    "net-parent": ({"namespaces": {"network": "parent"}}, {"network": "up"}),
    "uts-parent": ({"namespaces": {"uts": "parent"}}, {"uts": "up"}),
    "ipc-private": ({"namespaces": {"ipc": "private"}}, {"ipc": ""}),
    "ipc-parent": ({"namespaces": {"ipc": "parent"}}, {"ipc": "up"}),
    "cgroup-parent": ({"namespaces": {"cgroup": "parent"}}, {"cgroup": "up"}),
    "cgroup-private": ({"namespaces": {"cgroup": "private"}}, {"cgroup": ""}),
    "user-parent": ({"namespaces": {"user": "parent"}}, {"user": "up"}),
}
TOP_CELLS = [(name, kind, other) for name, (_, expected) in TOP.items() for kind, other in expected.items()]
NESTED_CELLS = [(name, kind, other) for name, (_, expected) in NESTED.items() for kind, other in expected.items()]
PARENTS = ["pod", "pod.mid", "mapped", "mapped.mid"]


class Still(World):
    """Nothing changes in it any more: `ps` is asked once."""

    @functools.cached_property
    def _once(self) -> dict[str, Row]:
        return super().rows()

    def rows(self) -> dict[str, Row]:
        return self._once


@pytest.fixture(scope="module")
def cells(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    yield from live(request.node, lambda: Still(nursery), all_cells)


def all_cells(world: World) -> None:
    for name, (spec, _) in TOP.items():
        world.write(f"{name}.yaml", document(name, command=SLEEP, **spec))
    leaves = [{"name": name, "command": SLEEP, **spec} for name, (spec, _) in NESTED.items()]
    hello = {"name": "hello", "shell": "uname -n; exec sleep infinity"}
    middle = {"name": "mid", "command": SLEEP, "containers": [*leaves, hello]}
    for name, more in (("pod", {}), ("mapped", {"user": "private"})):
        own = {"network": "private", **more}
        spec = sleeper(name, hostname="pod-host", namespaces=own, containers=[middle, *leaves, hello])
        world.write(f"{name}.yaml", spec)
    world.apply(timeout=90)


@pytest.mark.root
@pytest.mark.parametrize(("name", "kind", "other"), TOP_CELLS)
def test_a_top_level_container_is_in_the_namespace_its_row_says(cells: World, name: str, kind: str, other: str) -> None:
    """The inode is the host's, or nobody else's."""
    if other:
        namespace_shared(cells, name, other, kind)
    else:
        namespace_private(cells, name, "pod", kind=kind)


@pytest.mark.root
@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize(("name", "kind", "other"), NESTED_CELLS)
def test_a_nested_container_is_in_the_namespace_its_row_says(
    cells: World, parent: str, name: str, kind: str, other: str
) -> None:
    """The inode is the parent's, or neither the parent's nor a sibling's nor the host's."""
    if other == "up":
        namespace_shared(cells, f"{parent}.{name}", parent, kind)
    else:
        namespace_private(cells, f"{parent}.{name}", parent, f"{parent}.hello", kind=kind)


@pytest.mark.root
@pytest.mark.parametrize("parent", PARENTS)
def test_a_private_nested_pid_namespace_is_a_child_of_its_parents(cells: World, parent: str) -> None:
    """So that the parent sees its children's processes, and its end ends them."""
    with open(f"/proc/{instance(cells, f'{parent}.plain').pid}/ns/pid") as child:  # noqa: PTH123
        above = fcntl.ioctl(child, NS_GET_PARENT)
    try:
        assert os.fstat(above).st_ino == processes.namespace(instance(cells, parent).pid, "pid")
    finally:
        os.close(above)


@pytest.mark.root
@pytest.mark.parametrize("parent", PARENTS)
def test_the_parents_hostname_is_seen_by_its_children(cells: World, parent: str) -> None:
    """uts is shared down the whole tree."""
    assert cells.succeed("logs", f"{parent}.hello") == "pod-host\n"


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "hostname"), [("uts-private", "uts-private"), ("net-private", "net-private"), ("uts-name", "shop")]
)
def test_a_private_uts_has_the_hostname_given_or_the_containers_name(cells: World, name: str, hostname: str) -> None:
    """A hostname of one's own is never the host's by accident."""
    assert cells.succeed("exec", name, "--", "uname", "-n") == f"{hostname}\n"


@pytest.mark.root
@pytest.mark.parametrize("name", ["net-private", "pod", "pod.plain", "pod.mid.plain"])
def test_lo_is_up_in_every_private_network(cells: World, name: str) -> None:
    """Programs talk to themselves over 127.0.0.1, whose route exists only while lo is up."""
    assert "127.0.0.1" in Path(f"/proc/{instance(cells, name).pid}/net/fib_trie").read_text()


@pytest.mark.root
def test_a_private_pid_namespace_has_a_proc_of_its_own(cells: World) -> None:
    """`ps` inside sees the container's processes and no other."""
    inside = cells.succeed("exec", "plain", "--", "sh", "-c", "echo /proc/[0-9]*").split()
    assert "/proc/1" in inside
    assert len(inside) < 8, inside


@pytest.mark.root
def test_a_private_cgroup_namespace_shows_the_containers_own_cgroup_as_the_root(cells: World) -> None:
    """Where a process sees its own path, it sees /."""
    text = cells.succeed("exec", "plain", "--", "cat", "/proc/self/cgroup")
    ours = [line for line in text.splitlines() if line.split(":")[2] == "/"]
    assert ours, text
    assert "reconciler" not in text


@pytest.mark.root
@pytest.mark.parametrize("name", ["plain", "user-private"])
def test_state_and_runtime_directories_are_hidden_and_the_own_sandbox_is_not(cells: World, name: str) -> None:
    """On the host's file system a container sees its own sandbox at its path, and nobody else's."""
    own, other = cells.sandbox(name), cells.sandbox("pid-host")
    probe = f"test -d {own} && ! test -e {other} && ! test -e {cells.runtime}/keeper.sock && echo hidden"
    assert cells.succeed("exec", name, "--", "sh", "-c", probe) == "hidden\n"


@pytest.mark.root
def test_the_root_of_a_private_user_namespace_is_nobody_on_the_host(cells: World) -> None:
    """Its ids are a range of its own there, which another such container has no part in."""
    maps = []
    for name in ("user-private", "user-and-network", "mapped"):
        pid = instance(cells, name).pid
        first, outer, size = map(int, Path(f"/proc/{pid}/uid_map").read_text().split())
        assert (first, size) == (0, 65536) and outer > 0
        assert processes.status(pid)["Uid"].split()[0] == str(outer)
        maps.append(outer)
        assert cells.succeed("exec", name, "--", "id", "-u") == "0\n"
    assert len(set(maps)) == 3 and all(abs(one - two) >= 65536 for one in maps for two in maps if one != two)


@pytest.mark.root
def test_a_user_namespace_outlives_an_agent_that_was_killed(world: World) -> None:
    """The next agent takes the container up as it is, and gives its ids to nobody else."""
    first = sleeper("first", namespaces={"user": "private"}, containers=[{"name": "below", "command": SLEEP}])
    world.write("first.yaml", first)
    with world.agent("--user-ids", "1900000000-1900131071") as agent:
        before = instance(world, "first"), Path(f"/proc/{instance(world, 'first').pid}/uid_map").read_text()
        agent.kill()
    world.write("second.yaml", sleeper("second", namespaces={"user": "private"}))
    with world.agent("--user-ids", "1900000000-1900131071"):
        not_restarted(world, before[0])
        second = Path(f"/proc/{instance(world, 'second').pid}/uid_map").read_text()
        assert {int(each.split()[1]) for each in (before[1], second)} == {1900000000, 1900065536}
        namespace_shared(world, "first.below", "first", "user")
        plan_is_empty(world)


ONLY_NESTED = {"parent"}
REFUSED_TOP = {kind: ONLY_NESTED for kind in ("pid", "network", "uts", "ipc", "cgroup", "user")} | {
    "mount": {"host", "parent"}
}
REFUSED_NESTED = {kind: {"host"} for kind in ("pid", "ipc", "cgroup")} | {
    "mount": {"host", "parent"},
    **{kind: {"host", "private"} for kind in ("network", "uts", "user")},
}


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_what_a_row_does_not_allow_is_refused_with_its_place(user_world: World, depth: int) -> None:
    """The row's reason is told by `check`, which needs no root and touches nothing."""
    places = []
    for kind, values in (REFUSED_NESTED if depth else REFUSED_TOP).items():
        for value in values:
            spec: dict[str, object] = {"command": SLEEP, "namespaces": {kind: value}}
            for level in range(depth):
                spec = {"command": SLEEP, "containers": [{"name": f"c{level}", **spec}]}
            text = document(f"{kind}-{value}", **spec)
            line = next(number for number, each in enumerate(text.splitlines(), 1) if f'"{kind}": "{value}"' in each)
            places.append((f"{user_world.write(f'{kind}-{value}.yaml', text)}:{line}:", f"namespaces.{kind}"))
    answer = user_world.reconciler("check", user_world.specs)
    said = (answer.stdout + answer.stderr).splitlines()
    assert answer.returncode == 1
    for place, field in places:
        assert [line for line in said if place in line and field in line], f"{place} {field} is not in {said}"


def test_a_hostname_with_the_hosts_uts_is_refused(user_world: World) -> None:
    """It would rename the host."""
    path = user_world.write("bad.yaml", sleeper("bad", hostname="me", namespaces={"uts": "host"}))
    said = user_world.reconciler("check", path)
    assert said.returncode == 1
    assert "hostname" in said.stdout + said.stderr


def test_nesting_deeper_than_sixteen_is_refused(user_world: World) -> None:
    """The kernel ends pid namespaces at 32; the spec ends at 16."""
    spec: dict[str, object] = {"command": SLEEP}
    for level in range(17):
        spec = {"command": SLEEP, "containers": [{"name": f"c{level}", **spec}]}
    path = user_world.write("deep.yaml", document("deep", **spec))
    said = user_world.reconciler("check", path)
    assert said.returncode == 1
    assert "16" in said.stdout + said.stderr


@pytest.mark.root
def test_a_tree_of_depth_sixteen_runs(world: World) -> None:
    """The deepest tree that the spec allows is one that the kernel gives."""
    spec: dict[str, object] = {"command": SLEEP}
    for _ in range(16):
        spec = {"command": SLEEP, "containers": [{"name": "n", **spec}]}
    world.write("deep.yaml", json.dumps(json.loads(document("deep", **spec))))
    world.apply()
    assert instance(world, ".".join(["deep"] + ["n"] * 16)).alive
