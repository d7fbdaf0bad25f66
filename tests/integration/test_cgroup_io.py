"""Disks on real cgroups: rates that bite and change under a reader, those of nested containers, weights, figures."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import Unsupported
from reconciler.runtime.isolators.cgroups_io import IoIsolator
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.kernel import block_devices, cgroups
from reconciler.runtime.launcher.cgroup_tree import CgroupTree
from reconciler.spec.model import ResourceAmounts, ResourceRequests
from tests.conftest import ELSEWHERE
from tests.integration.cgroup_worlds import finish, start, tree_on

KIB, MIB = 1 << 10, 1 << 20
NOTHING = ResourceAmounts()

pytestmark = [
    pytest.mark.root,
    pytest.mark.cgroup,
    pytest.mark.vm,
    pytest.mark.skipif(cgroups.read_map().hierarchy_of("blkio") is None, reason="no cgroup controller blkio or io"),
]


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    with tree_on(cgroups.read_map()) as tree:
        yield tree


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(8 * MIB)
    try:
        made = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop devices here: {error.stderr}")
    device = made.stdout.strip()
    scheduler = Path("/sys/block", Path(device).name, "queue/scheduler")
    before = re.findall(r"\[(\S+)\]", scheduler.read_text())  # it outlives the detaching
    yield device
    for each in before:
        scheduler.write_text(each)
    subprocess.run(["losetup", "--detach", device], check=True)


def context(tree: CgroupTree, name: str = "web") -> Context:
    return Context(name=name, cgroups=tree.create(name), runtime_dir=Path("/nowhere"))


def limits(disk: str, **rates: int) -> ResourceAmounts:
    return ResourceAmounts.model_validate({"io": {disk: rates}})


def read(disk: str, kib: int) -> str:
    return f"exec dd if={disk} of=/dev/null bs=64k count={kib // 64} iflag=direct 2>/dev/null"


def seconds(tree: CgroupTree, name: str, script: str) -> float:
    process, before = start(tree, name, script), time.monotonic()
    assert finish(process) == 0
    return time.monotonic() - before


def test_a_reader_is_held_to_its_rate_and_let_go_in_place(tree: CgroupTree, disk: str) -> None:
    io, at = IoIsolator(tree.map), context(tree)
    number = block_devices.disk(disk)
    io.update(at, NOTHING, limits(disk, read_bps=MIB))
    assert seconds(tree, "web", read(disk, 512)) > 0.35
    usage = io.usage(at)
    assert usage["io_read_bytes"] == usage[f"io.{number}.read_bytes"] == 512 * KIB
    assert (usage["io_reads"] or 0) >= 8 and usage["io_written_bytes"] == 0  # v2 counts what was held back twice
    assert usage[f"io.{number}.read_bps_limit"] == MIB and usage[f"io.{number}.write_bps_limit"] is None
    io.update(at, NOTHING, limits(disk, read_iops=2, write_bps=MIB))
    assert (io.usage(at)[f"io.{number}.read_bps_limit"], io.usage(at)[f"io.{number}.read_iops_limit"]) == (None, 2)
    slow = start(tree, "web", read(disk, 4096))  # half a minute of single reads
    io.update(at, NOTHING, NOTHING)
    assert finish(slow, within=10) == 0 and f"io.{number}.read_bps_limit" not in io.usage(at)


def test_a_limit_holds_for_what_is_nested_and_a_nested_one_has_its_own(tree: CgroupTree, disk: str) -> None:
    io, outer = IoIsolator(tree.map), context(tree, "shop")
    inner, other = context(tree, "shop.web"), context(tree, "shop.job")
    io.update(other, NOTHING, limits(f"{block_devices.disk(disk)}", read_bps=512 * KIB))
    io.update(outer, NOTHING, limits(disk, read_bps=MIB))
    assert seconds(tree, "shop.web", read(disk, 512)) > 0.35, "its parent's"
    assert seconds(tree, "shop.job", read(disk, 320)) > 0.45, "its own"
    assert io.usage(outer)["io_read_bytes"] == 832 * KIB and io.usage(inner)["io_read_bytes"] == 512 * KIB
    io.update(outer, NOTHING, NOTHING)
    slow = start(tree, "shop.job", read(disk, 8192))
    assert seconds(tree, "shop.web", read(disk, 8192)) < 10
    assert slow.poll() is None, "its own stays"
    tree.kill("shop.job")
    finish(slow)


def test_a_weight_is_given_to_the_scheduler_and_refused_where_it_has_none(tree: CgroupTree, disk: str) -> None:
    io, at, number = IoIsolator(tree.map), context(tree), block_devices.disk(disk)
    place = io.place(at, "blkio", {1: ("blkio.bfq.weight", "blkio.bfq.weight_device"), 2: ("io.bfq.weight",) * 2})
    assert place is not None
    if not place.text(place.files[0]):
        pytest.skip("no BFQ in this kernel")
    scheduler = Path("/sys/dev/block", number, "queue/scheduler")

    def weigh(**weights: int) -> str:
        requests = {"io": {name.replace("disk", disk): {"weight": weight} for name, weight in weights.items()}}
        io.update(at, ResourceRequests.model_validate(requests), NOTHING)
        return " ".join(dict.fromkeys(place.text(file) for file in place.files)).removeprefix("default ")

    scheduler.write_text("none")
    if not place.text("io.weight"):
        with pytest.raises(Unsupported, match=f"{number} is scheduled by none, which weighs nothing; bfq does"):
            weigh(disk=50)
    scheduler.write_text("bfq")
    assert weigh(default=10_000).startswith("1000")
    assert f"{number} 50" in weigh(default=100, disk=50)
    assert number not in weigh(default=100)
    assert number not in weigh()


def test_a_weight_is_given_to_iocost_as_it_is(tree: CgroupTree) -> None:
    io, at = IoIsolator(tree.map), context(tree)
    place = io.place(at, "blkio", {1: (), 2: ()})
    assert place is not None
    if not place.text("io.weight"):
        pytest.skip(f"{ELSEWHERE}: needs iocost, of cgroup v2")
    for weight in (300, 10_000, 1):
        io.update(at, ResourceRequests.model_validate({"io": {"default": {"weight": weight}}}), NOTHING)
        assert place.text("io.weight").splitlines()[0] == f"default {weight}"
    io.update(at, ResourceRequests(), NOTHING)
    assert place.text("io.weight").splitlines()[0] == "default 100"
