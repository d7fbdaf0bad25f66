"""CPUs of containers on real cgroups: what a process sees, and what nested ones may have."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.isolators.cgroups_cpuset import CpusetIsolator
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.kernel import cgroups, cpus
from reconciler.runtime.launcher.cgroup_tree import DEFAULT_CONTROLLERS, CgroupTree
from reconciler.spec.model import ResourceAmounts
from tests.integration.cgroup_worlds import ROOT, finish, start, tree_on, until

ALL = cpus.online()
FIRST, SECOND = sorted(ALL)[:2] if len(ALL) > 1 else (0, 0)

pytestmark = [
    pytest.mark.root,
    pytest.mark.cgroup,
    pytest.mark.vm,
    pytest.mark.skipif(cgroups.read_map().hierarchy_of("cpuset") is None, reason="no cgroup controller cpuset"),
    pytest.mark.skipif(len(ALL) < 2, reason="one CPU: nothing to choose from"),
]


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    with tree_on(cgroups.read_map()) as tree:
        yield tree


def limit(tree: CgroupTree, name: str, cpuset: str | None) -> None:
    at = Context(name=name, cgroups=tree.paths(name), runtime_dir=Path("/nowhere"))
    CpusetIsolator(tree.map).update(at, ResourceAmounts(), ResourceAmounts(cpuset=cpuset))


def allowed(tree: CgroupTree, name: str) -> float | None:
    at = Context(name=name, cgroups=tree.paths(name), runtime_dir=Path("/nowhere"))
    return CpusetIsolator(tree.map).usage(at)["cpus_allowed"]


def runs_on(pid: int, wanted: Set[int]) -> None:
    until(lambda: os.sched_getaffinity(pid) == wanted, f"it may run on {wanted} alone")


def test_a_process_has_the_cpus_of_its_container_and_they_change_under_it(tree: CgroupTree) -> None:
    for name in ("shop", "shop.web"):
        tree.create(name)
    outer, inner = (start(tree, name, "exec sleep 1000") for name in ("shop", "shop.web"))
    assert os.sched_getaffinity(outer.pid) == os.sched_getaffinity(inner.pid) == ALL, "without a limit all"
    for wanted in ({FIRST}, {SECOND}, {FIRST, SECOND}, {FIRST}):
        limit(tree, "shop", cpus.listed(wanted))
        for process in (outer, inner):
            runs_on(process.pid, wanted)
        assert allowed(tree, "shop") == allowed(tree, "shop.web") == len(wanted)
    limit(tree, "shop", None)
    runs_on(inner.pid, ALL)
    tree.kill("shop")
    finish(outer), finish(inner)


def test_a_nested_container_has_some_of_its_parent_s(tree: CgroupTree) -> None:
    for name in ("shop", "shop.web"):
        tree.create(name)
    limit(tree, "shop", str(FIRST))
    with pytest.raises(Retryable, match=f"{SECOND} is more than the CPUs {FIRST} that it is nested in"):
        limit(tree, "shop.web", str(SECOND))
    limit(tree, "shop", None)
    limit(tree, "shop.web", str(SECOND))
    inner = start(tree, "shop.web", "exec sleep 1000")
    assert os.sched_getaffinity(inner.pid) == {SECOND}
    hierarchy = tree.map.hierarchy_of("cpuset")
    if hierarchy is not None and hierarchy.version == 1:  # v2 takes it, and gives the nested one what there is
        with pytest.raises(Retryable, match=f"{FIRST} lacks CPUs that the nested web has, {SECOND}"):
            limit(tree, "shop", str(FIRST))
        assert os.sched_getaffinity(inner.pid) == {SECOND} and allowed(tree, "shop") == len(ALL)
    else:
        limit(tree, "shop", str(FIRST))
        runs_on(inner.pid, {FIRST})
    tree.kill("shop")
    finish(inner)


def test_what_was_launched_without_a_cpuset_is_given_one() -> None:
    host, owner = cgroups.read_map(), f"t{secrets.token_hex(4)}"
    before = CgroupTree(host, ROOT, owner, DEFAULT_CONTROLLERS - {"cpuset"})
    tree = CgroupTree(host, ROOT, owner)
    before.create("old")
    process = start(before, "old", "exec sleep 1000")
    try:
        tree.gather("old", [process.pid])
        assert tree.strays("old", [process.pid]) == {}
        limit(tree, "old", str(FIRST))
        assert os.sched_getaffinity(process.pid) == {FIRST}
    finally:
        tree.kill("old")
        finish(process)
        tree.remove("old", timeout=10)
        tree.remove_roots()
