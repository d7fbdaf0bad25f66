"""Making, killing and removing cgroups on this host's real hierarchies, with cgroup2 and as if without it."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.runtime.kernel import cgroups
from reconciler.runtime.launcher.cgroup_tree import CgroupBusy, CgroupLost, CgroupTree
from tests import processes
from tests.integration.cgroup_worlds import ROOT, finish, start, tree_on, until, where

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.vm]
FORK_STORM = "storm() { storm & storm & wait; }\nfor i in 1 2 3; do storm & done\nwait"


HOST = cgroups.read_map()
HOSTS = {"as it is": HOST}
if HOST.hierarchy_of("freezer") is not None:
    HOSTS["without cgroup2"] = HOST.without_unified()


@pytest.fixture(params=list(HOSTS))
def tree(request: pytest.FixtureRequest) -> Iterator[CgroupTree]:
    with tree_on(HOSTS[request.param]) as tree:
        yield tree


def test_a_container_has_a_directory_in_every_hierarchy_used(tree: CgroupTree) -> None:
    made = tree.create("shop")
    assert made == tree.paths("shop") and set(made) == set(tree.hierarchies)
    assert all(
        Path(path).is_dir() and path.endswith(f"/{ROOT}/{tree.roots()[0].split('/')[-1]}/shop")
        for path in made.values()
    )
    assert all(Path(path).is_dir() for path in tree.process_dirs("shop").values())
    assert tree.list() == {"shop"}


def test_a_nested_container_lies_in_its_parent_and_needs_it(tree: CgroupTree) -> None:
    with pytest.raises(FileNotFoundError):
        tree.create("shop.web")
    tree.create("shop")
    made = tree.create("shop.web")
    assert made == {key: f"{path}/web" for key, path in tree.paths("shop").items()}
    assert tree.list() == {"shop", "shop.web"}


def test_killing_a_container_ends_what_is_nested_in_it(tree: CgroupTree) -> None:
    tree.create("shop")
    tree.create("shop.web")
    outer, inner = start(tree, "shop", "sleep 1000"), start(tree, "shop.web", "sleep 1000")
    tree.kill("shop")
    assert (finish(outer), finish(inner)) == (-signal.SIGKILL, -signal.SIGKILL)
    tree.remove("shop", timeout=10)
    assert tree.list() == set()


def test_killing_what_is_nested_leaves_its_parent_alone(tree: CgroupTree) -> None:
    tree.create("shop")
    tree.create("shop.web")
    outer, inner = start(tree, "shop", "sleep 1000"), start(tree, "shop.web", "sleep 1000")
    tree.kill("shop.web")
    assert finish(inner) == -signal.SIGKILL
    tree.remove("shop.web", timeout=10)
    assert outer.poll() is None and tree.list() == {"shop"}
    tree.kill("shop")
    finish(outer)


def test_a_fork_storm_is_killed_and_removed(tree: CgroupTree) -> None:
    tree.create("storm")
    cgroups.write(where(tree, "storm", "pids"), "pids.max", "200")
    process = start(tree, "storm", FORK_STORM)
    until(lambda: len(tree.pids("storm")) > 50, "the storm grew")
    tree.kill("storm")
    tree.remove("storm", timeout=20)
    assert finish(process) == -signal.SIGKILL
    assert tree.list() == set()


def test_a_stopped_process_is_killed(tree: CgroupTree) -> None:
    tree.create("shop")
    process = start(tree, "shop", "exec sleep 1000")  # a shell that waits for vfork(2) would not stop before its child
    tree.signal("shop", signal.SIGSTOP)
    until(lambda: (stat := processes.read(process.pid)) is not None and stat.state == "T", "it stopped")
    tree.kill("shop")
    assert finish(process) == -signal.SIGKILL


def test_a_process_in_a_cgroup_that_the_payload_made_is_killed_and_the_cgroup_removed(tree: CgroupTree) -> None:
    tree.create("shop")
    own = Path(tree.process_dirs("shop")[tree.tracking.name], "payload.made")
    process = start(tree, "shop", "sleep 1000")
    own.mkdir()
    cgroups.write(str(own), "cgroup.procs", process.pid)
    assert tree.list() == {"shop"} and tree.pids("shop") != []
    tree.kill("shop")
    assert finish(process) == -signal.SIGKILL
    tree.remove("shop", timeout=10)


def test_a_container_that_was_frozen_from_outside_is_killed(tree: CgroupTree) -> None:
    tree.create("shop")
    process = start(tree, "shop", "sleep 1000")
    directory = tree.tracking_dir("shop")
    file, value = {1: ("freezer.state", "FROZEN"), 2: ("cgroup.freeze", "1")}[tree.tracking.version]
    cgroups.write(directory, file, value)
    tree.kill("shop")
    assert finish(process) == -signal.SIGKILL


def test_everything_may_be_repeated_and_a_missing_container_is_none(tree: CgroupTree) -> None:
    for _ in range(2):
        tree.kill("ghost")
        tree.remove("ghost", timeout=1)
        tree.remove_roots()
        assert tree.signal("ghost", signal.SIGTERM) == 0
        assert (tree.pids("ghost"), tree.populated("ghost"), tree.list()) == ([], False, set())


def test_an_empty_left_over_is_made_anew_with_what_is_in_it(tree: CgroupTree) -> None:
    tree.create("shop")
    tree.create("shop.web")
    cgroups.write(where(tree, "shop", "pids"), "pids.max", "7")
    tree.create("shop")
    assert tree.list() == {"shop"}
    assert cgroups.read(where(tree, "shop", "pids"), "pids.max") == "max"


def test_a_left_over_with_processes_is_refused_by_pid(tree: CgroupTree) -> None:
    tree.create("shop")
    process = start(tree, "shop", "sleep 1000")
    with pytest.raises(CgroupBusy, match=rf"{process.pid} \(state ") as caught:
        tree.create("shop")
    assert process.pid in caught.value.pids and caught.value.errno == errno.EBUSY
    assert process.poll() is None
    tree.kill("shop")
    finish(process)


def test_what_cannot_be_removed_is_named_with_stage_path_and_pids(tree: CgroupTree) -> None:
    tree.create("shop")
    process = start(tree, "shop", "sleep 1000")
    with pytest.raises(CgroupBusy) as caught:
        tree.remove("shop", timeout=0.05)
    assert "remove cgroup" in str(caught.value) and "/shop" in str(caught.value)
    assert process.pid in caught.value.pids
    tree.kill("shop")
    finish(process)


def test_populated_follows_the_processes_nested_ones_included(tree: CgroupTree) -> None:
    tree.create("shop")
    tree.create("shop.web")
    assert not tree.populated("shop")
    process = start(tree, "shop.web", "sleep 1000")
    assert tree.populated("shop")
    tree.kill("shop.web")
    finish(process)
    until(lambda: not tree.populated("shop"), "it emptied")


def test_roots_with_containers_stay_and_empty_ones_go(tree: CgroupTree) -> None:
    tree.create("shop")
    tree.remove_roots()
    assert tree.list() == {"shop"}
    tree.remove("shop", timeout=5)
    tree.remove_roots()
    assert not any(Path(root).parent.exists() for root in tree.roots())


def test_two_agents_never_meet(tree: CgroupTree) -> None:
    tree.create("shop")
    with tree_on(tree.map) as other:
        other.create("shop")
        other.create("other")
        assert other.list() == {"shop", "other"} and tree.list() == {"shop"}
        other.remove("shop", timeout=5)
        other.remove("other", timeout=5)
        other.remove_roots()
    assert tree.list() == {"shop"}


def test_a_container_may_be_called_like_a_control_file(tree: CgroupTree) -> None:
    tree.create("tasks")
    tree.create("tasks.tasks")
    assert tree.list() == {"tasks", "tasks.tasks"}
    tree.remove("tasks", timeout=5)
    assert tree.list() == set()


@pytest.mark.parametrize("name", ["..", "a..b", "a/b", "", "_leaf", "A", "a.b_c", "-a"])
def test_a_name_that_could_lead_elsewhere_is_refused(tree: CgroupTree, name: str) -> None:
    with pytest.raises(ValueError, match="not a container name"):
        tree.create(name)


def test_descriptors_lead_to_where_processes_sit(tree: CgroupTree) -> None:
    tree.create("shop")
    fds = tree.open_dirs("shop")
    process = start(tree, "shop", "sleep 1000")
    for fd in fds.values():
        assert process.pid in cgroups.pids(fd)
        assert not os.get_inheritable(fd)
        os.close(fd)
    tree.kill("shop")
    finish(process)


def test_on_cgroup2_controllers_are_handed_down_to_where_limits_are_written() -> None:
    available = HOST.unified.controllers if HOST.unified else frozenset()
    with tree_on(HOST, available) as tree:
        tree.create("shop")
        tree.create("shop.web")
        for name in ("shop", "shop.web"):
            enabled = cgroups.read(tree.tracking_dir(name), "cgroup.controllers").split() if available else []
            assert cgroups.controllers_v2(available) <= set(enabled)
        process = start(tree, "shop", "sleep 1000")
        tree.kill("shop")
        assert finish(process) == -signal.SIGKILL


def test_strays_are_gathered_unless_there_is_nothing_left_to_gather_them_in(tree: CgroupTree) -> None:
    """What holds a container together, or says what devices it may use, is no more what it was when it is made anew."""
    tree.create("shop")
    process = start(tree, "shop", "exec sleep 1000")
    until(lambda: processes.cmdline(process.pid)[:1] == ("sleep",), "it is that one process")
    for root in tree.roots():
        cgroups.write(str(Path(root).parents[1]), "cgroup.procs", process.pid)
    assert set(tree.strays("shop", [process.pid])) == set(tree.hierarchies)
    tree.gather("shop", [process.pid])
    assert tree.strays("shop", [process.pid]) == {} and tree.pids("shop") == [process.pid]
    cgroups.write(str(Path(tree.tracking_dir("shop")).parents[2]), "cgroup.procs", process.pid)
    for directory in reversed(cgroups.below(tree.tracking_dir("shop"))):
        Path(directory).rmdir()
    with pytest.raises(CgroupLost) as lost:
        tree.gather("shop", [process.pid])
    assert lost.value.filename == tree.tracking_dir("shop")
    process.kill()
    finish(process)
