"""What a spec needs of the isolators: a field that nobody would carry out, and options nobody has, are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.isolators import options
from reconciler.runtime.isolators.cgroups_mem import MemoryIsolator
from reconciler.runtime.isolators.cgroups_pids import PidsIsolator
from reconciler.runtime.isolators.isolator import PassiveIsolator
from reconciler.runtime.isolators.namespaces_user import UserNamespaceIsolator
from reconciler.runtime.kernel import userns
from reconciler.runtime.kernel.cgroups import CgroupMap
from reconciler.runtime.mesos.needs import refusals
from reconciler.spec.model import ContainerSpec


def named(name: str, **table: Any) -> PassiveIsolator:
    isolator = PassiveIsolator()
    isolator.name, isolator.options = name, table
    return isolator


def spec(**fields: Any) -> ContainerSpec:
    return ContainerSpec.model_validate({"name": "shop", "shell": "x", **fields})


@pytest.mark.parametrize(
    ("fields", "field", "isolator"),
    [
        ({"rootfs": "/srv/tree"}, "rootfs", "filesystem/linux"),
        ({"security": {"readOnlyRootfs": True}}, "security.readOnlyRootfs", "filesystem/linux"),
        ({"resources": {"limits": {"memory": 1}}}, "resources.limits.memory", "cgroups/mem"),
        ({"resources": {"limits": {"disk": 1}}}, "resources.limits.disk", "disk/du or disk/xfs"),
        ({"rlimits": {"core": {"soft": 0, "hard": 0}}}, "rlimits", "posix/rlimits"),
        ({"namespaces": {"user": "private"}}, "namespaces.user", "namespaces/user"),
        ({"hostname": "front"}, "namespaces.uts", "namespaces"),
        ({"security": {"capabilities": {"drop": ["ALL"]}}}, "security.capabilities.drop", "linux/capabilities"),
        ({"security": {"seccomp": "/etc/strict.json"}}, "security.seccomp", "linux/seccomp"),
        ({"volumes": [{"type": "tmpfs", "target": "x"}]}, "volumes[0].type", "volume/tmpfs"),
    ],
)
def test_a_field_is_refused_when_isolation_leaves_its_isolator_out(
    fields: dict[str, Any], field: str, isolator: str
) -> None:
    one = isolator.partition(" or ")[0]
    (refused,) = refusals(spec(**fields), [named("other")], {one})
    assert refused == f"spec.{field} needs the isolator {isolator}, which --isolation leaves out"
    assert refusals(spec(**fields), [named(one)], {"other"}) == []
    assert refusals(spec(), [], {one}) == [], "defaults name nothing"


def test_what_does_not_work_here_is_refused_with_the_reason_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(userns, "why_none", lambda: "max_user_namespaces is 0")
    nobody = CgroupMap(())
    chain = [UserNamespaceIsolator(Path("/run"), range(1, 2), "x"), MemoryIsolator(nobody), PidsIsolator(nobody)]
    asked = spec(namespaces={"user": "private"}, resources={"limits": {"memory": 1, "pids": 1}})
    why = "this host has no cgroup controller `{}` for containers; enable it"
    assert refusals(asked, chain, set()) == [
        f"spec.{field} needs the isolator {name}, which does not work here: {reason}"
        for field, name, reason in (
            ("resources.limits.memory", "cgroups/mem", why.format("memory")),
            ("resources.limits.pids", "cgroups/pids", why.format("pids")),
            ("namespaces.user", "namespaces/user", "max_user_namespaces is 0"),
        )
    ]
    assert refusals(spec(), chain, set()) == [], "what nobody asks for may be missing"


def test_options_are_read_by_the_isolator_they_are_for() -> None:
    disk = named("disk/du", enforce=options.flag, interval=options.interval, most=options.count)
    good = spec(isolators={"disk/du": {"enforce": False, "interval": "1m", "most": 2}})
    assert refusals(good, [disk], set()) == []
    assert options.read(good, disk) == {"enforce": False, "interval": 60.0, "most": 2}
    bad = spec(isolators={"disk/du": {"enforce": 1, "interval": 5, "most": True, "speed": "x"}, "disk/ssd": {}})
    assert refusals(bad, [disk, named("a")], set()) == [
        "spec.isolators.disk/ssd: no such isolator is enabled; there are: a, disk/du",
        "spec.isolators.disk/du.enforce: 1 must be true or false",
        "spec.isolators.disk/du.interval: 5 must be a time of at least a second, with a unit: 15s",
        "spec.isolators.disk/du.most: True must be a whole number from 1",
        "spec.isolators.disk/du.speed: there is no such option; there are: enforce, interval, most",
    ]
