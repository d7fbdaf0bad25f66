"""Amounts → what is written where, for both versions, on directories that stand in for cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import Retryable, Unsupported
from reconciler.runtime.isolators import cgroups_cpu
from reconciler.runtime.isolators.cgroups_cpu import CpuIsolator
from reconciler.runtime.isolators.cgroups_mem import MemoryIsolator
from reconciler.runtime.isolators.cgroups_pids import PidsIsolator
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.kernel.cgroups import CgroupMap, Hierarchy
from reconciler.spec.model import ResourceAmounts
from reconciler.states import Reason

ALL = frozenset({"cpu", "cpuacct", "memory", "pids"})
NOTHING = ResourceAmounts()


def host(version: int) -> CgroupMap:
    return CgroupMap((Hierarchy("all", version, "/nowhere", ALL),))


def context(directory: Path, **files: str) -> Context:
    """A container whose cgroup has those files ("_" for "." in their names)."""
    for name, text in files.items():
        (directory / name.replace("_", ".", 1)).write_text(text)
    return Context(name="web", cgroups={"all": str(directory)}, runtime_dir=directory)


def text(context: Context, file: str) -> str:
    return Path(context.cgroups["all"], file).read_text()


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(2, 1), (10, 4), (102, 17), (512, 59), (1024, 100), (2048, 174), (8192, 532), (262144, 10000)],
)
def test_shares_become_the_weight_that_other_runtimes_give(shares: int, weight: int) -> None:
    assert cgroups_cpu.weight(shares / 1024) == weight


@pytest.mark.parametrize(("cpus", "shares"), [(None, 1024), (0.5, 512), (0.0001, 2), (1000, 262144)])
def test_a_request_is_1024_shares_per_cpu_within_the_kernel_s_bounds(cpus: float | None, shares: int) -> None:
    assert cgroups_cpu.shares(cpus) == shares


@pytest.mark.parametrize(("cpus", "quota"), [(None, None), (0.5, 50_000), (2, 200_000), (0.001, 1000)])
def test_a_limit_is_a_quota_of_a_period_never_below_a_millisecond(cpus: float | None, quota: int | None) -> None:
    assert cgroups_cpu.quota(cpus) == quota


def test_cpu_is_written_in_the_words_of_v1(tmp_path: Path) -> None:
    at = context(tmp_path, cpu_shares="", cpu_cfs_quota_us="", cpu_cfs_period_us="")
    CpuIsolator(host(1)).update(at, ResourceAmounts(cpus=2), ResourceAmounts(cpus=1.5))
    written = [text(at, file) for file in ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us")]
    assert written == ["2048", "150000", "100000"]


def test_cpu_is_written_in_the_words_of_v2(tmp_path: Path) -> None:
    at = context(tmp_path, cpu_weight="", cpu_max="")
    CpuIsolator(host(2)).update(at, ResourceAmounts(cpus=2), ResourceAmounts(cpus=1.5))
    assert (text(at, "cpu.weight"), text(at, "cpu.max")) == ("174", "150000 100000")
    assert CpuIsolator(host(2)).usage(at)["cpu_limit"] == 1.5


@pytest.mark.parametrize(("version", "file", "word"), [(1, "cpu.cfs_quota_us", "-1"), (2, "cpu.max", "max 100000")])
def test_no_cpu_limit_is_written_as_unlimited(tmp_path: Path, version: int, file: str, word: str) -> None:
    at = context(tmp_path, cpu_shares="", cpu_cfs_quota_us="", cpu_cfs_period_us="", cpu_weight="", cpu_max="")
    CpuIsolator(host(version)).update(at, NOTHING, NOTHING)
    assert text(at, file) == word
    assert CpuIsolator(host(version)).usage(at)["cpu_limit"] is None


def test_memory_is_written_exactly_in_the_words_of_v2(tmp_path: Path) -> None:
    at = context(tmp_path, memory_max="max", memory_low="", memory_current="4096")
    MemoryIsolator(host(2)).update(at, ResourceAmounts(memory=1000), ResourceAmounts(memory=12_345_678))
    assert (text(at, "memory.max"), text(at, "memory.low")) == ("12345678", "1000")


def test_on_v2_what_is_nested_ends_alone_for_want_of_memory(tmp_path: Path) -> None:
    """The cgroup of a container with others nested in it does not ask for a common end, that of its processes does."""
    memory, shop, web = MemoryIsolator(host(2)), tmp_path / "shop", tmp_path / "shop/web"
    (shop / "_leaf").mkdir(parents=True)
    (shop / "memory.oom.group").touch()
    at = context(shop, memory_max="max", memory_low="", memory_current="4096")
    memory.update(at, NOTHING, NOTHING)
    assert text(at, "memory.oom.group") == "1"
    (web / "_leaf").mkdir(parents=True)
    for each in (shop / "_leaf", web):  # as the first nested container makes it
        (each / "memory.oom.group").touch()
    memory.update(context(web, memory_max="max", memory_low="", memory_current="4096"), NOTHING, NOTHING)
    assert [(each / "memory.oom.group").read_text() for each in (shop, shop / "_leaf", web)] == ["0", "1", "1"]


def test_on_v2_a_memory_limit_below_usage_is_not_written(tmp_path: Path) -> None:
    at = context(tmp_path, memory_max="67108864", memory_low="", memory_current="33554432")
    (tmp_path / "memory.oom.group").touch()
    with pytest.raises(Retryable, match=r"16Mi is below present usage of 32Mi; the limit of 64Mi stays"):
        MemoryIsolator(host(2)).update(at, NOTHING, ResourceAmounts(memory=16 << 20))
    assert text(at, "memory.max") == "67108864"


def test_swap_is_what_memory_and_swap_together_leave_of_it_on_v2(tmp_path: Path) -> None:
    at = context(tmp_path, memory_max="max", memory_low="", memory_current="4096")
    for file, word in {"memory.oom.group": "", "memory.swap.max": "max", "memory.swap.current": "0"}.items():
        (tmp_path / file).write_text(word)
    memory = MemoryIsolator(host(2))
    memory.update(at, NOTHING, ResourceAmounts(memory=64 << 20, memory_swap=96 << 20))
    assert (text(at, "memory.max"), text(at, "memory.swap.max")) == (str(64 << 20), str(32 << 20))
    assert memory.usage(at)["memory_swap_limit_bytes"] == 96 << 20
    (tmp_path / "memory.swap.current").write_text(str(16 << 20))
    with pytest.raises(Retryable, match=r"72Mi \(8Mi of it swap\) is below present usage of 16Mi; the limit of 32Mi"):
        memory.update(at, NOTHING, ResourceAmounts(memory=64 << 20, memory_swap=72 << 20))
    assert text(at, "memory.swap.max") == str(32 << 20)


@pytest.mark.parametrize("version", [1, 2])
def test_a_host_that_does_not_account_swap_refuses_a_limit_on_it(tmp_path: Path, version: int) -> None:
    at = context(tmp_path, memory_max="max", memory_low="", memory_current="0", memory_limit_in_bytes="-1")
    (tmp_path / "memory.oom.group").touch()
    (tmp_path / "memory.soft_limit_in_bytes").touch()
    memory = MemoryIsolator(host(version))
    memory.update(at, NOTHING, ResourceAmounts(memory=1 << 20))
    with pytest.raises(Unsupported, match=r"memorySwap: cannot be enforced, this host does not account swap"):
        memory.update(at, NOTHING, ResourceAmounts(memory=1 << 20, memory_swap=1 << 20))


def test_oom_kills_are_those_of_the_container_itself_and_its_leaf(tmp_path: Path) -> None:
    at = context(tmp_path, memory_max="1048576", memory_peak="1048576")
    (tmp_path / "_leaf").mkdir()
    for directory, count in ((tmp_path, 1), (tmp_path / "_leaf", 2)):
        (directory / "memory.events.local").write_text(f"oom 1\noom_kill {count}\n")
    found = MemoryIsolator(host(2)).limitation(at)
    assert found is not None and found.reason is Reason.OUT_OF_MEMORY
    assert "killed 3 processes" in found.message and "1Mi of the limit of 1Mi" in found.message


@pytest.mark.parametrize("own", [9223372036854771712, 2 << 20], ids=["without one", "not met"])
def test_an_oom_names_the_limit_around_when_its_own_was_not_met(tmp_path: Path, own: int) -> None:
    nested = tmp_path / "shop" / "web"
    nested.mkdir(parents=True)
    (nested.parent / "memory.limit_in_bytes").write_text("1048576")
    (nested.parent / "memory.memsw.failcnt").write_text("7")
    at = context(nested, memory_oom_control="oom_kill 1", memory_limit_in_bytes=str(own), memory_failcnt="0")
    found = MemoryIsolator(host(1)).limitation(at)
    assert found is not None and "limit of 1Mi used (of shop, around it)" in found.message


def test_without_oom_kills_there_is_no_limitation(tmp_path: Path) -> None:
    at = context(tmp_path, memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert MemoryIsolator(host(1)).limitation(at) is None


def test_unlimited_is_none_and_the_working_set_leaves_idle_cache_out(tmp_path: Path) -> None:
    at = context(tmp_path, memory_limit_in_bytes="9223372036854771712", memory_usage_in_bytes="5000")
    (tmp_path / "memory.stat").write_text("total_inactive_file 2000\n")
    usage = MemoryIsolator(host(1)).usage(at)
    assert usage["memory_limit_bytes"] is None
    assert (usage["memory_bytes"], usage["memory_working_set_bytes"]) == (5000, 3000)


def test_a_pids_limit_below_usage_is_not_written(tmp_path: Path) -> None:
    at = context(tmp_path, pids_max="max", pids_current="9")
    with pytest.raises(Retryable, match=r"5 is below present usage of 9; no limit stays"):
        PidsIsolator(host(1)).update(at, NOTHING, ResourceAmounts(pids=5))
    assert text(at, "pids.max") == "max"


@pytest.mark.parametrize("kind", [CpuIsolator, MemoryIsolator, PidsIsolator])
def test_a_host_without_the_controller_refuses_limits_but_not_their_absence(
    tmp_path: Path, kind: type[CpuIsolator] | type[MemoryIsolator] | type[PidsIsolator]
) -> None:
    isolator, at = kind(CgroupMap(())), context(tmp_path)
    isolator.update(at, ResourceAmounts(cpus=1, memory=1, pids=1), NOTHING)
    assert isolator.usage(at) == {} and isolator.limitation(at) is None
    with pytest.raises(Unsupported, match="no cgroup controller"):
        isolator.update(at, NOTHING, ResourceAmounts(cpus=1, memory=1 << 20, pids=5))
