"""Devices on real cgroups: what is not on the list cannot be opened, by v1 files and by a program."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.runtime.isolators import cgroups_devices
from reconciler.runtime.isolators.cgroups_devices import DEFAULT, DevicesIsolator, Rule
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.kernel import bpf, cgroups
from reconciler.runtime.kernel.cgroups import CgroupMap
from reconciler.runtime.launcher.cgroup_tree import CgroupTree
from tests.integration.cgroup_worlds import finish, start, tree_on

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.vm]
HOST = cgroups.read_map()
WORLDS = {"program": HOST, "files": HOST.without_unified()}


@pytest.fixture(params=[name for name, host in WORLDS.items() if not cgroups_devices.unavailable(host)])
def tree(request: pytest.FixtureRequest) -> Iterator[CgroupTree]:
    host: CgroupMap = WORLDS[request.param]
    with tree_on(host, frozenset({"pids"}) | cgroups_devices.needed(host)) as tree:
        yield tree


def context(tree: CgroupTree, name: str = "web") -> Context:
    return Context(name=name, cgroups=tree.create(name), runtime_dir=Path("/nowhere"))


@pytest.fixture
def kmsg(tmp_path: Path) -> Path:
    """A node of our own for /dev/kmsg (1:11), which root may open, and which is on no list."""
    node = tmp_path / "kmsg"
    os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 11))
    return node


def can(tree: CgroupTree, script: str, name: str = "web") -> bool:
    return finish(start(tree, name, f"{script} 2>/dev/null")) == 0


def test_what_is_not_on_the_list_cannot_be_opened(tree: CgroupTree, kmsg: Path) -> None:
    at = context(tree)
    assert can(tree, f"exec 3<{kmsg}")  # not restricted yet: it can fail for one reason alone
    DevicesIsolator(tree.map).restrict(at, DEFAULT)
    assert not can(tree, f"exec 3<{kmsg}")
    assert can(tree, "exec 3<>/dev/null 4</dev/zero 5</dev/urandom")
    assert can(tree, f"mknod {kmsg}2 c 1 11")
    assert not can(tree, f"exec 3<{kmsg}2")


def test_what_encloses_it_restricts_it_too(tree: CgroupTree, kmsg: Path) -> None:
    devices, outer = DevicesIsolator(tree.map), context(tree)
    devices.restrict(outer, DEFAULT)
    inner = context(tree, "web.inner")
    try:
        devices.restrict(inner, (*DEFAULT, Rule("c", 1, 11, "r")))
    except cgroups.ControlError:
        return  # v1 refuses it at once
    assert not can(tree, f"exec 3<{kmsg}", "web.inner")


def test_a_program_is_attached_once_and_goes_with_its_cgroup(kmsg: Path) -> None:
    if HOST.unified is None or cgroups_devices.unavailable(HOST):
        pytest.skip("needs a cgroup2 mount and a kernel that takes device programs")
    with tree_on(HOST, frozenset({"pids"})) as tree:
        at = context(tree)
        DevicesIsolator(tree.map).restrict(at, DEFAULT)
        fd = os.open(at.cgroups["unified"], os.O_RDONLY)
        try:
            assert len(bpf.device_programs(fd)) == 1
        finally:
            os.close(fd)
        tree.remove("web", timeout=10)
        assert not Path(at.cgroups["unified"]).exists()
