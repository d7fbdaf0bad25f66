"""Disks, huge pages, pressure, misc: amounts → what is written where, files → figures; on stand-ins for cgroups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable, Terminal, Unsupported
from reconciler.runtime.isolators import cgroups_io
from reconciler.runtime.isolators.cgroups_hugetlb import HugetlbIsolator, kernel_name
from reconciler.runtime.isolators.cgroups_io import IoIsolator, bfq_weight
from reconciler.runtime.isolators.cgroups_misc import MiscIsolator
from reconciler.runtime.isolators.cgroups_pressure import PressureIsolator
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.kernel.cgroups import CgroupMap, Hierarchy
from reconciler.runtime.mesos.fit import refusals
from reconciler.runtime.mesos.measuring import Sample, as_json
from reconciler.spec.model import ContainerSpec, ResourceAmounts
from reconciler.spec.rules import violations

NOTHING = ResourceAmounts()
NOWHERE = CgroupMap(())


def host(version: int) -> CgroupMap:
    return CgroupMap((Hierarchy("unified", version, "/nowhere", frozenset({"blkio", "hugetlb", "misc"})),))


def context(directory: Path, name: str = "web", files: dict[str, str] | None = None) -> Context:
    directory.mkdir(exist_ok=True)
    for file, text in (files or {}).items():
        (directory / file).write_text(text)
    return Context(name=name, cgroups={"unified": str(directory)}, runtime_dir=directory)


def spec(**resources: Any) -> ContainerSpec:
    return ContainerSpec.model_validate({"name": "web", "shell": "x", "resources": resources})


@pytest.fixture(autouse=True)
def disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/sda and 8:0 are one disk, /dev/gone is none yet."""

    def disk(device: str) -> str:
        if device == "/dev/gone":
            raise FileNotFoundError(2, "No such file or directory", device)
        if device == "/dev/sda1":
            raise ValueError("/dev/sda1 is a partition")
        return "8:0" if device == "/dev/sda" else device

    monkeypatch.setattr(cgroups_io.block_devices, "disk", disk)


@pytest.mark.parametrize(("weight", "bfq"), [(1, 1), (100, 100), (210, 110), (10_000, 1000)])
def test_the_default_weight_is_that_of_both_scales(weight: int, bfq: int) -> None:
    assert bfq_weight(weight) == bfq


def test_rates_are_written_in_the_words_of_v2_and_those_nobody_asks_for_are_taken_back(tmp_path: Path) -> None:
    at = context(
        tmp_path, files={"io.max": "", "io.stat": "8:0 rbytes=7 wbytes=5 rios=2 wios=1 dbytes=0 dios=0\n9:0\n"}
    )
    io = IoIsolator(host(2))
    io.update(at, NOTHING, ResourceAmounts.model_validate({"io": {"/dev/sda": {"readBps": 5, "writeIops": 9}}}))
    assert (tmp_path / "io.max").read_text() == "8:0 rbps=5 wbps=max riops=max wiops=9"
    usage = io.usage(at)
    assert (usage["io_read_bytes"], usage["io_writes"], usage["io.8:0.write_iops_limit"]) == (7, 1, 9)
    io.update(at, NOTHING, NOTHING)
    assert (tmp_path / "io.max").read_text() == "8:0 rbps=max wbps=max riops=max wiops=max"


def test_on_v1_a_nested_container_is_at_most_as_fast_as_its_parent(tmp_path: Path) -> None:
    file = "blkio.throttle.read_bps_device"
    empty = {f"blkio.throttle.{kind}_device": "" for kind in cgroups_io.KINDS}
    outer = context(tmp_path / "shop", "shop", {**empty, file: "8:0 5"})
    inner = context(tmp_path / "shop" / "web", "shop.web", empty)
    own = context(tmp_path / "shop" / "job", "shop.job", {**empty, file: "8:0 2"})
    io = IoIsolator(host(1))

    def reads(at: Context) -> str:
        return Path(at.cgroups["unified"], file).read_text()

    io.update(inner, NOTHING, ResourceAmounts.model_validate({"io": {"8:0": {"readBps": 9}}}))
    assert reads(inner) == "8:0 5"
    io.update(outer, NOTHING, ResourceAmounts.model_validate({"io": {"8:0": {"readBps": 4}}}))
    assert (reads(outer), reads(inner), reads(own)) == ("8:0 4", "8:0 4", "8:0 2")
    io.update(outer, NOTHING, NOTHING)
    assert (reads(inner), reads(own)) == ("8:0 0", "8:0 2")


@pytest.mark.parametrize(
    ("devices", "error"),
    [
        ({"/dev/sda1": {"readBps": 1}}, pytest.raises(Terminal, match=r"limits.io: /dev/sda1 is a partition")),
        ({"/dev/gone": {"readBps": 1}}, pytest.raises(Retryable, match=r"/dev/gone: No such file .* waited for")),
        (
            {"/dev/sda": {"readBps": 1}, "8:0": {"readBps": 2}},
            pytest.raises(Terminal, match="/dev/sda and 8:0 are one device, 8:0"),
        ),
    ],
)
def test_what_is_no_disk_is_refused_and_what_may_come_is_waited_for(tmp_path: Path, devices: Any, error: Any) -> None:
    limits = ResourceAmounts.model_validate({"io": devices})
    with error:
        IoIsolator(host(2)).update(context(tmp_path), NOTHING, limits)
    with pytest.raises(Unsupported, match="no cgroup controller `blkio`"):
        IoIsolator(NOWHERE).update(context(tmp_path), NOTHING, limits)
    partitions = [device for device in devices if device == "/dev/sda1"]
    assert len(IoIsolator(host(2)).refuses(spec(limits={"io": devices}))) == len(partitions)


def test_a_weight_on_a_disk_that_nobody_weighs_is_refused_before_anything_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = spec(requests={"io": {"default": {"weight": 9}, "/dev/sda": {"weight": 9}}})
    monkeypatch.setattr(cgroups_io.block_devices, "scheduler", lambda number: "kyber")
    assert IoIsolator(host(1)).refuses(asked) == [
        "spec.resources.requests.io: /dev/sda is scheduled by kyber, which weighs nothing; bfq does"
    ]
    assert IoIsolator(host(2)).refuses(asked) == [], "iocost may"
    monkeypatch.setattr(cgroups_io.block_devices, "scheduler", lambda number: "bfq")
    assert IoIsolator(host(1)).refuses(asked) == []


@pytest.mark.parametrize(
    ("resources", "field", "message"),
    [
        ({"limits": {"io": {"sda": {"readBps": 2}}}}, "limits.io.sda", "no block device"),
        ({"limits": {"io": {"default": {"readBps": 2}}}}, "limits.io.default", "no block device"),
        ({"limits": {"io": {"8:0": {"writeIops": 1}}}}, "limits.io.8:0.writeIops", "no rate below 2 per second"),
        ({"limits": {"io": {"8:0": {"weight": 1}}}}, "limits.io.8:0.weight", "belongs into requests"),
        ({"requests": {"io": {"8:0": {"readBps": 2}}}}, "requests.io.8:0.readBps", "belongs into limits"),
        ({"requests": {"io": {"default": {}}}}, "requests.io.default", "says nothing"),
        ({"limits": {"hugepages": {"2Mi": 3 << 20}}}, "limits.hugepages.2Mi", "3Mi is no whole number of pages of 2Mi"),
        ({"limits": {"hugepages": {"2Mi": 2 << 20, "2048Ki": 2 << 20}}}, "limits.hugepages.2048Ki", "2Mi again"),
    ],
)
def test_what_is_written_wrong_is_said_by_check(resources: Any, field: str, message: str) -> None:
    ((found, why, _),) = violations(spec(**resources))
    assert found == f"resources.{field}" and message in why


def test_the_posix_launcher_refuses_them() -> None:
    asked = spec(limits={"io": {"8:0": {"readBps": 1}}}, requests={"io": {"default": {"weight": 9}}})
    assert [why.split()[0] for why in refusals(asked, "posix", frozenset(), limits=False)] == [
        "spec.resources.limits.io",
        "spec.resources.requests.io",
    ]


@pytest.mark.parametrize(("size", "name"), [(2 << 20, "2MB"), (1 << 30, "1GB"), (64 << 10, "64KB")])
def test_a_page_size_is_called_as_the_kernel_calls_it(size: int, name: str) -> None:
    assert kernel_name(size) == name


def test_a_page_size_that_is_not_there_is_refused() -> None:
    (why,) = HugetlbIsolator(host(2)).refuses(spec(limits={"hugepages": {"3Mi": 3 << 20}}))
    assert why.startswith("spec.resources.limits.hugepages.3Mi: this host has no huge pages of that size; there are: ")


def test_pressure_and_misc_become_figures_and_json(tmp_path: Path) -> None:
    lines = "some avg10=1.50 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    files = {"memory.pressure": lines, "misc.current": "sev 3\nsev_es 0\n", "misc.events": "sev.max 2\nsev_es.max 0\n"}
    at = context(tmp_path, files=files)
    figures = {**PressureIsolator(host(2)).usage(at), **MiscIsolator(host(2)).usage(at)}
    row: Any = as_json("web", Sample("a", 1, figures), None)
    assert row["pressure"]["memory"]["someAvg10"] == 1.5 and row["pressure"]["memory"]["someSeconds"] == 2.5
    assert set(row["pressure"]) == {"memory"} and row["disks"] is None
    assert row["misc"] == {"sev": {"used": 3, "refused": 2}, "sev_es": {"used": 0, "refused": 0}}
