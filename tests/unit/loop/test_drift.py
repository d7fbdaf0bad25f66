"""Limits in force against limits recorded: what counts as changed by somebody else, and what is done about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.loop.drift import drifted
from reconciler.loop.plan import plan
from reconciler.loop.values import Observed, Op
from reconciler.runtime.containerizer import Usage
from reconciler.spec.model import ContainerSpec, ResourceAmounts, Resources
from reconciler.states import ChangeClass
from tests.unit.loop.values import NOW, desired, record, recorded, spec, status

MIB = 1 << 20


def limited(**limits: object) -> ContainerSpec:
    return spec("web").model_copy(update={"resources": Resources(limits=ResourceAmounts.model_validate(limits))})


@pytest.mark.parametrize(
    ("limits", "usage", "what"),
    [
        ({"memory": 64 * MIB}, {"memory_limit_bytes": 64 * MIB}, ""),
        ({"memory": 64 * MIB + 1}, {"memory_limit_bytes": 64 * MIB}, ""),
        ({"memory": 64 * MIB}, {"memory_limit_bytes": 32 * MIB}, "memory is limited to 32Mi, not to 64Mi"),
        ({"memory": 64 * MIB}, {"memory_limit_bytes": None}, "memory is limited to nothing, not to 64Mi"),
        ({"memory": 4097, "memory_swap": 12287}, {"memory_swap_limit_bytes": 8192}, ""),
        ({}, {"memory_swap_limit_bytes": 64 * MIB}, "memorySwap is limited to 64Mi, not to nothing"),
        ({}, {"pids_limit": 7}, "pids is limited to 7, not to nothing"),
        ({"pids": 7}, {}, ""),
        ({"cpus": 0.333}, {"cpu_limit": 0.33}, ""),
        ({"cpus": 0.001}, {"cpu_limit": 0.01}, ""),
        ({"cpuset": "1,0"}, {"cpuset": 0b11}, ""),
        ({}, {"cpuset": 0b11}, ""),
        ({"cpuset": "0,2-3"}, {"cpuset": 0b10}, "cpuset is limited to 1, not to 0,2-3"),
        ({}, {"strays": 0}, ""),
        ({}, {"strays": 2}, "2 of its processes moved out of its cgroup"),
        ({"cpus": 0.5}, {"cpu_limit": 1.0}, "cpus is limited to 1, not to 0.5"),
        ({}, {"network_taken": 0}, ""),
        ({}, {"network_taken": 2}, "2 of the settings of its networks taken away"),
    ],
)
def test_what_differs_is_named(limits: dict[str, float | str], usage: Usage, what: str) -> None:
    found = drifted(limited(**limits), usage)
    assert found == (f"changed by somebody else: {what}" if what else "")


def test_limits_of_disks_and_huge_pages_are_compared_where_the_containerizer_has_them() -> None:
    asked = {"io": {"/dev/sda": {"readBps": 2 * MIB}}, "hugepages": {"2048Ki": 4 * MIB}}
    one = spec("web").model_copy(update={"resources": Resources.model_validate({"limits": asked})})
    there: Usage = {"io_reads": 0, "io.8:0.read_bps_limit": 2 * MIB, "hugepages.2Mi.limit_bytes": 4 * MIB}
    assert drifted(one, there, {"/dev/sda": "8:0"}) == drifted(one, {}, {}) == drifted(one, {"io_reads": 0}, {}) == ""
    assert drifted(one, {**there, "io.8:0.read_bps_limit": 5}, {"/dev/sda": "8:0"}) == "", "its parent's, on v1"
    engine = one.model_copy(update={"type": "docker"})
    assert drifted(engine, {"io_reads": 0}, {"/dev/sda": "8:0"}) == "", "it could not be put right"
    gone: Usage = {"io_reads": 0, "hugepages.2Mi.limit_bytes": None, "hugepages.1Gi.limit_bytes": 1 << 30}
    assert drifted(one, gone, {"/dev/sda": "8:0"}) == (
        "changed by somebody else: io./dev/sda.readBps is limited to nothing, not to 2Mi, "
        "hugepages.1Gi is limited to 1Gi, not to nothing, hugepages.2Mi is limited to nothing, not to 4Mi"
    )


def test_an_engine_cannot_take_a_limit_away() -> None:
    engine = limited().model_copy(update={"type": "docker"})
    assert drifted(engine, {"memory_limit_bytes": 5}) == ""


def test_it_is_put_right_in_place() -> None:
    one = spec("web", "serve")
    observed = Observed({"web": status(one)}, drift={"web": "changed by somebody else: memory …"})
    found = plan(desired(one), recorded(record(one)), observed, NOW)
    assert [(each.op, each.change) for each in found.actions] == [(Op.UPDATE, ChangeClass.LIVE)]
    assert plan(desired(one), recorded(record(one)), replace(observed, drift={}), NOW).actions == ()


def test_a_rate_of_a_network_that_is_another_is_named_with_its_interface() -> None:
    asked = limited(network={"ingress": MIB})
    there: Usage = {"interface.eth0.ingress_limit": MIB, "interface.eth0.egress_limit": None, "interface.lo.sent": 1}
    assert drifted(asked, there) == ""
    gone: Usage = {**there, "interface.eth0.ingress_limit": None}
    assert "network.ingress of eth0 is limited to nothing, not to 1Mi" in drifted(asked, gone)
