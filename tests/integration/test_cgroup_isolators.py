"""The isolators on real cgroups: exact values, limits that bite, and figures that say so."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.isolators.cgroups_cpu import CpuIsolator
from reconciler.runtime.isolators.cgroups_mem import MemoryIsolator
from reconciler.runtime.isolators.cgroups_pids import PidsIsolator
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.kernel import cgroups
from reconciler.runtime.launcher.cgroup_tree import CgroupTree
from reconciler.spec.model import ResourceAmounts
from reconciler.states import Reason
from tests.integration.cgroup_worlds import finish, start, tree_on, until

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.vm]
MIB = 1 << 20
NOTHING = ResourceAmounts()
# 32 MiB held in the interpreter's own memory, then "held" on stdout
HOLDER = 'x = bytearray(b"x") * (32 << 20); print("held", flush=True); import time; time.sleep(1000)'
HOLD = f"exec {sys.executable} -c '{HOLDER}'"


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    with tree_on(cgroups.read_map()) as tree:
        yield tree


def context(tree: CgroupTree, name: str = "web") -> Context:
    return Context(name=name, cgroups=tree.create(name), runtime_dir=Path("/nowhere"))


def test_an_exact_memory_limit_is_read_back_and_taken_away_in_place(tree: CgroupTree) -> None:
    memory, at = MemoryIsolator(tree.map), context(tree)
    for limit in (64 * MIB, 128 * MIB, 32 * MIB):
        memory.update(at, ResourceAmounts(memory=16 * MIB), ResourceAmounts(memory=limit))
        assert memory.usage(at)["memory_limit_bytes"] == limit
    memory.update(at, NOTHING, NOTHING)
    assert memory.usage(at)["memory_limit_bytes"] is None


def test_memory_and_swap_go_up_and_down_together_in_the_order_the_kernel_takes(tree: CgroupTree) -> None:
    memory, at = MemoryIsolator(tree.map), context(tree)
    for limit, both in ((64, 96), (128, 192), (32, 32), (256, 256), (16, 64)):
        memory.update(at, NOTHING, ResourceAmounts(memory=limit * MIB, memory_swap=both * MIB))
        usage = memory.usage(at)
        assert (usage["memory_limit_bytes"], usage["memory_swap_limit_bytes"]) == (limit * MIB, both * MIB)
    memory.update(at, NOTHING, ResourceAmounts(memory=512 * MIB))
    assert memory.usage(at)["memory_swap_limit_bytes"] is None


def test_a_process_above_the_memory_limit_is_killed_and_the_kill_is_found(tree: CgroupTree) -> None:
    memory, at = MemoryIsolator(tree.map), context(tree)
    memory.update(at, NOTHING, ResourceAmounts(memory=16 * MIB))
    assert memory.limitation(at) is None
    assert finish(start(tree, "web", HOLD)) == -signal.SIGKILL
    found = memory.limitation(at)
    assert found is not None and found.reason is Reason.OUT_OF_MEMORY
    assert "16Mi of the limit of 16Mi used" in found.message


def test_a_neighbour_s_oom_is_not_one_s_own(tree: CgroupTree) -> None:
    memory, quiet, hungry = MemoryIsolator(tree.map), context(tree, "quiet"), context(tree, "hungry")
    memory.update(hungry, NOTHING, ResourceAmounts(memory=16 * MIB))
    finish(start(tree, "hungry", HOLD))
    assert memory.limitation(quiet) is None


def test_a_memory_limit_below_usage_is_refused_with_both_figures_and_the_old_one_stays(tree: CgroupTree) -> None:
    memory, at = MemoryIsolator(tree.map), context(tree)
    memory.update(at, NOTHING, ResourceAmounts(memory=256 * MIB))
    process = start(tree, "web", HOLD)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    with pytest.raises(Retryable, match=r"8Mi is below present usage of \d+.i; the limit of 256Mi stays in force"):
        memory.update(at, NOTHING, ResourceAmounts(memory=8 * MIB))
    assert memory.usage(at)["memory_limit_bytes"] == 256 * MIB
    assert process.poll() is None and memory.limitation(at) is None
    tree.kill("web")
    finish(process)


def test_memory_in_use_shows_in_the_figures(tree: CgroupTree) -> None:
    memory, at = MemoryIsolator(tree.map), context(tree)
    process = start(tree, "web", HOLD)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    usage = memory.usage(at)
    for figure in ("memory_bytes", "memory_working_set_bytes", "memory_peak_bytes"):
        assert (usage[figure] or 0) > 30 * MIB
    tree.kill("web")
    finish(process)


def test_exact_cpu_amounts_are_read_back_and_taken_away_in_place(tree: CgroupTree) -> None:
    cpu, at = CpuIsolator(tree.map), context(tree)
    for cpus in (0.25, 1.5, 0.1):
        cpu.update(at, ResourceAmounts(cpus=cpus), ResourceAmounts(cpus=cpus))
        assert cpu.usage(at)["cpu_limit"] == cpus
    cpu.update(at, NOTHING, NOTHING)
    assert cpu.usage(at)["cpu_limit"] is None


@pytest.mark.parametrize(
    ("cpus", "shares", "weight"), [(0.01, 10, 4), (0.5, 512, 59), (1, 1024, 100), (8, 8192, 532), (None, 1024, 100)]
)
def test_a_request_of_cpus_is_what_the_kernel_weighs_by(
    tree: CgroupTree, cpus: float | None, shares: int, weight: int
) -> None:
    cpu, at = CpuIsolator(tree.map), context(tree)
    cpu.update(at, ResourceAmounts(cpus=4), NOTHING)
    cpu.update(at, ResourceAmounts(cpus=cpus), NOTHING)
    hierarchy = tree.map.hierarchy_of("cpu")
    assert hierarchy is not None
    file, expected = ("cpu.shares", shares) if hierarchy.version == 1 else ("cpu.weight", weight)
    assert cgroups.read(at.cgroups[hierarchy.name], file) == str(expected)


def test_a_busy_process_is_throttled_to_its_cpu_limit(tree: CgroupTree) -> None:
    cpu, at = CpuIsolator(tree.map), context(tree)
    cpu.update(at, NOTHING, ResourceAmounts(cpus=0.1))
    process = start(tree, "web", "while :; do :; done")
    until(lambda: (cpu.usage(at)["cpu_throttled_periods"] or 0) >= 3, "it was throttled")
    usage = cpu.usage(at)
    assert (usage["cpu_seconds"] or 0) > 0 and (usage["cpu_throttled_seconds"] or 0) > 0
    tree.kill("web")
    finish(process)


def test_a_nested_cpu_limit_above_its_parent_s_is_taken_or_explained(tree: CgroupTree) -> None:
    cpu, outer = CpuIsolator(tree.map), context(tree, "shop")
    inner = context(tree, "shop.web")
    cpu.update(outer, NOTHING, ResourceAmounts(cpus=0.5))
    hierarchy = tree.map.hierarchy_of("cpu")
    assert hierarchy is not None
    if hierarchy.version == 2:  # there the kernel takes it, and the parent's binds
        cpu.update(inner, NOTHING, ResourceAmounts(cpus=1))
        return
    with pytest.raises(Retryable, match="more than the one it is nested in"):
        cpu.update(inner, NOTHING, ResourceAmounts(cpus=1))
    assert cpu.usage(inner)["cpu_limit"] is None


def test_the_pids_limit_bites_and_counts_what_it_refused(tree: CgroupTree) -> None:
    pids, at = PidsIsolator(tree.map), context(tree)
    pids.update(at, NOTHING, ResourceAmounts(pids=5))
    process = start(tree, "web", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done\nwait")
    until(lambda: (pids.usage(at)["pids_refused"] or 0) > 0, "a fork was refused")
    assert pids.usage(at)["pids"] is not None and (pids.usage(at)["pids"] or 0) <= 5
    assert pids.usage(at)["pids_limit"] == 5
    tree.kill("web")
    finish(process)


def test_a_pids_limit_is_taken_away_in_place(tree: CgroupTree) -> None:
    pids, at = PidsIsolator(tree.map), context(tree)
    pids.update(at, NOTHING, ResourceAmounts(pids=5))
    pids.update(at, NOTHING, NOTHING)
    assert pids.usage(at)["pids_limit"] is None


def test_a_removed_container_has_no_figures_and_no_limitation(tree: CgroupTree) -> None:
    at = context(tree)
    tree.remove("web", timeout=5)
    for isolator in (CpuIsolator(tree.map), MemoryIsolator(tree.map), PidsIsolator(tree.map)):
        assert set(isolator.usage(at).values()) <= {None}
        assert isolator.limitation(at) is None
