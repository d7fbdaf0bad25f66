"""The map controller → hierarchy, on recorded mountinfo of the three kinds of host."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from reconciler.runtime.kernel import cgroups
from reconciler.runtime.kernel.cgroups import ControlError

V1 = """\
24 18 0:22 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
25 24 0:23 / /sys/fs/cgroup/systemd rw,nosuid shared:10 - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
26 24 0:25 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:13 - cgroup cgroup rw,cpu,cpuacct
27 24 0:26 / /sys/fs/cgroup/memory rw,nosuid shared:14 - cgroup cgroup rw,memory
28 24 0:27 / /sys/fs/cgroup/freezer rw,nosuid shared:15 - cgroup cgroup rw,freezer
29 24 0:28 / /sys/fs/cgroup/net_cls,net_prio rw shared:16 - cgroup cgroup rw,net_cls,net_prio
30 24 0:29 / /sys/fs/cgroup/pids rw,nosuid shared:17 - cgroup cgroup rw,pids
"""
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
V2_CONTROLLERS = {"/sys/fs/cgroup": "cpuset cpu io memory hugetlb pids rdma misc"}


def test_on_a_v1_host_co_mounted_controllers_share_a_hierarchy() -> None:
    found = cgroups.parse_map(V1, {})
    cpu = found.hierarchy_of("cpu")
    assert cpu is not None and cpu == found.hierarchy_of("cpuacct")
    assert (cpu.name, cpu.version, cpu.mount) == ("cpu,cpuacct", 1, "/sys/fs/cgroup/cpu,cpuacct")
    assert found.unified is None


def test_a_named_hierarchy_has_its_name_and_no_controllers() -> None:
    systemd = next(each for each in cgroups.parse_map(V1, {}).hierarchies if each.name == "systemd")
    assert systemd.controllers == frozenset()


def test_on_a_hybrid_host_each_controller_is_found_where_it_is() -> None:
    found = cgroups.parse_map(HYBRID, {"/sys/fs/cgroup/unified": "hugetlb"})
    where = {name: found.hierarchy_of(name) for name in ("memory", "hugetlb", "pids")}
    assert {name: each and each.version for name, each in where.items()} == {"memory": 1, "hugetlb": 2, "pids": None}
    assert found.unified is not None and found.unified.mount == "/sys/fs/cgroup/unified"


def test_on_a_v2_host_everything_is_unified_old_names_included() -> None:
    found = cgroups.parse_map(V2, V2_CONTROLLERS)
    for name in ("cpu", "cpuacct", "memory", "pids", "io", "blkio"):
        assert found.hierarchy_of(name) == found.unified
    assert found.hierarchy_of("freezer") is None


def test_controllers_are_handed_down_under_their_v2_names_once() -> None:
    assert cgroups.controllers_v2({"cpu", "cpuacct", "memory"}) == {"cpu", "memory"}


def test_of_several_mounts_the_first_that_shows_the_root_counts() -> None:
    text = "1 0 0:9 /a /x rw - cgroup2 c rw\n2 0 0:9 / /y rw - cgroup2 c rw\n3 0 0:9 / /z rw - cgroup2 c rw\n"
    assert [each.mount for each in cgroups.parse_map(text, {}).hierarchies] == ["/y"]


def test_a_container_that_sees_only_its_own_part_of_a_hierarchy_uses_that() -> None:
    text = "2 0 0:9 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    memory = cgroups.parse_map(text, {}).hierarchy_of("memory")
    assert memory is not None and memory.mount == "/sys/fs/cgroup/memory"


def test_without_the_unified_mount_the_rest_stays() -> None:
    found = cgroups.parse_map(HYBRID, {}).without_unified()
    assert found.unified is None and found.hierarchy_of("freezer") is not None


def test_a_flat_keyed_file_is_read_and_other_lines_are_left_out() -> None:
    assert cgroups.table("low 0\noom_kill 3\nmax\nrwx 1:2 3\nunder_oom 0") == {"low": 0, "oom_kill": 3, "under_oom": 0}


def test_a_write_that_fails_names_file_value_and_meaning(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"cannot write '7' to .*/pids.max: .*no such cgroup") as caught:
        cgroups.write(str(tmp_path), "pids.max", 7)
    assert caught.value.errno == errno.ENOENT and cgroups.gone(caught.value)


def test_a_missing_cgroup_has_no_processes_and_nothing_below_it(tmp_path: Path) -> None:
    missing = str(tmp_path / "gone")
    assert (cgroups.pids(missing), cgroups.below(missing), cgroups.populated(missing)) == ([], [], False)


def test_cgroups_below_come_after_those_they_are_in(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    found = [Path(each).relative_to(tmp_path).as_posix() for each in cgroups.below(str(tmp_path))]
    assert found == [".", "a", "b", "b/c"]
