"""Does a spec fit a launcher: what it names is refused when it cannot be had, what it leaves open is said."""

from __future__ import annotations

import os
from typing import Any

import pytest

from reconciler.runtime.launcher.linux import LinuxLauncher
from reconciler.runtime.launcher.posix import PosixLauncher
from reconciler.runtime.mesos.fit import refusals, shared_notice
from reconciler.spec.model import ContainerSpec


def spec(**fields: Any) -> ContainerSpec:
    return ContainerSpec.model_validate({"name": "shop", "shell": "x", **fields})


def on_posix(made: ContainerSpec) -> list[str]:
    return refusals(made, "posix", PosixLauncher.gives, limits=PosixLauncher.limits)


def on_linux(made: ContainerSpec) -> list[str]:
    return refusals(made, "linux", LinuxLauncher.gives, limits=LinuxLauncher.limits)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"namespaces": {"pid": "private"}}, "spec.namespaces.pid"),
        ({"namespaces": {"network": "private"}}, "spec.namespaces.network"),
        ({"namespaces": {"user": "private"}}, "spec.namespaces.user"),
        ({"hostname": "front"}, "spec.namespaces.uts"),
        ({"namespaces": {"shmSize": "1Mi"}}, "spec.namespaces.ipc"),
        ({"resources": {"limits": {"memory": "64Mi"}}}, "spec.resources.limits.memory"),
        ({"resources": {"limits": {"cpus": 1}}}, "spec.resources.limits.cpus"),
        ({"resources": {"limits": {"pids": 9}}}, "spec.resources.limits.pids"),
        ({"rootfs": "/srv/tree"}, "spec.rootfs"),
        ({"security": {"readOnlyRootfs": True}}, "spec.security.readOnlyRootfs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_posix_launcher_cannot_give_is_refused_when_it_is_named(fields: dict[str, Any], named: str) -> None:
    found = on_posix(spec(**fields))
    assert len(found) == 1 and found[0].startswith(named) and "posix launcher" in found[0]
    assert on_linux(spec(**fields)) == []


def test_every_refusal_is_said_at_once() -> None:
    found = on_posix(spec(namespaces={"pid": "private", "ipc": "private"}, resources={"limits": {"pids": 5}}))
    assert len(found) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"namespaces": {"pid": "host", "network": "host"}},
        {"resources": {"requests": {"cpus": 1, "memory": "1Mi"}}},
        {"name": "shop.web", "namespaces": {"pid": "parent"}},
    ],
    ids=str,
)
def test_what_is_left_open_or_shared_runs_on_every_launcher(fields: dict[str, Any]) -> None:
    assert on_posix(spec(**fields)) == [] and on_linux(spec(**fields)) == []


def test_only_root_becomes_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "only root" in on_posix(spec(user="nobody"))[0]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert on_posix(spec(user="nobody")) == []


def test_falling_back_to_shared_is_said() -> None:
    notice = shared_notice(spec(), "posix", PosixLauncher.gives)
    assert notice.startswith("posix launcher: shares the host's")
    assert all(name in notice for name in ("mount", "pid", "ipc", "cgroup"))
    assert shared_notice(spec(), "linux", LinuxLauncher.gives) == ""
    assert "pid" not in shared_notice(spec(namespaces={"pid": "host"}), "posix", PosixLauncher.gives)
