"""Lists of CPUs, and which of them a spec may ask for."""

from __future__ import annotations

import pytest

from reconciler.runtime.isolators.cgroups_cpuset import CpusetIsolator
from reconciler.runtime.kernel import cpus
from reconciler.runtime.kernel.cgroups import CgroupMap
from reconciler.spec.model import ContainerSpec, ResourceAmounts, Resources
from tests.unit.loop.values import spec


def asking(cpuset: str) -> ContainerSpec:
    return spec("web").model_copy(update={"resources": Resources(limits=ResourceAmounts(cpuset=cpuset))})


@pytest.mark.parametrize(("text", "listed"), [("0-1,3\n", "0-1,3"), ("7,1,0,2", "0-2,7"), ("", ""), ("3-1", "")])
def test_a_list_is_read_and_written_as_the_kernel_does(text: str, listed: str) -> None:
    found = cpus.parse(text)
    assert cpus.listed(found) == listed
    assert cpus.of_mask(cpus.mask(found)) == found


@pytest.mark.parametrize(
    ("cpuset", "why"),
    [
        ("0-1", None),
        ("0,4", "it has CPUs that are not there"),
        ("0-9999", "it has CPUs that are not there"),
        ("1-0", "it names no CPU"),
    ],
)
def test_cpus_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch, cpuset: str, why: str | None) -> None:
    monkeypatch.setattr(cpus, "online", lambda: frozenset({0, 1, 2}))
    refused = CpusetIsolator(CgroupMap(())).refuses(asking(cpuset))
    assert refused == ([f"spec.resources.limits.cpuset: {cpuset}: {why}; online are 0-2"] if why else [])
