"""The plan of a container with a root file system of its own: which steps, and the order that makes them safe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators import filesystem_rootfs
from reconciler.runtime.isolators.filesystem import FilesystemLinuxIsolator
from reconciler.runtime.isolators.isolator import Context, LaunchInfo
from reconciler.runtime.isolators.volumes import woven
from reconciler.runtime.kernel.cgroups import Hierarchy
from reconciler.runtime.launcher.steps import OPERATIONS
from reconciler.runtime.provisioner import rootfs
from reconciler.spec.model import ContainerSpec

ROOT, RUNTIME, TREE = Path("/nowhere/root"), Path("/nowhere/run"), Path("/srv/tree")
SANDBOX = "/nowhere/root/containers/shop/sandbox"
UNIFIED = Hierarchy("unified", 2, "/sys/fs/cgroup/unified", frozenset())
CPU = Hierarchy("cpu,cpuacct", 1, "/sys/fs/cgroup/cpu,cpuacct", frozenset({"cpu", "cpuacct"}))
SYSTEMD = Hierarchy("systemd", 1, "/sys/fs/cgroup/systemd", frozenset())
HYBRID = (CPU, SYSTEMD, UNIFIED)


def prepared(
    hierarchies: tuple[Hierarchy, ...] = HYBRID, tree: Path = TREE, inherited: frozenset[str] = frozenset(), **spec: Any
) -> LaunchInfo:
    made = ContainerSpec.model_validate({"name": "shop", "shell": "x", "rootfs": str(tree), **spec})
    root, *below = made.name.split(".")
    sandbox = ROOT / "containers" / root / "sandbox" / "/".join(f"containers/{label}" for label in below)
    config = ContainerConfig(made, "", sandbox, ROOT / "containers" / made.name / "logs")
    own = {each.name: f"{each.mount}/ours/{made.name}" for each in hierarchies if each is not SYSTEMD}
    isolator = FilesystemLinuxIsolator(ROOT, RUNTIME, hierarchies)
    config = replace(config, rootfs=tree)
    info = isolator.prepare(config, Context(made.name, own, RUNTIME, inherited=inherited))
    return replace(info, steps=tuple(woven(config, info, filesystem_rootfs.SANDBOX)))


def lines(info: LaunchInfo) -> list[str]:
    subjects = ("type", "source", "beneath", "what", "of", "target")
    return [" ".join([str(step["op"]), *(str(step[key]) for key in subjects if key in step)]) for step in info.steps]


def test_the_whole_plan_in_its_order() -> None:
    assert lines(prepared(security={"readOnlyRootfs": True})) == [
        "mount /",
        "detach /nowhere/run/pins",
        "take /srv/tree",
        f"take {SANDBOX}",
        "take /sys/fs/cgroup/unified/ours/shop",
        "root",
        "directories",
        "readonly /",
        "fresh proc /proc",
        "fresh sysfs /sys",
        "fresh tmpfs /sys/fs/cgroup",
        "fresh cgroup /sys/fs/cgroup/cpu,cpuacct",
        "put unified /sys/fs/cgroup/unified",
        "nodes /sys/fs/cgroup",
        "readonly /sys/fs/cgroup",
        "fresh tmpfs /dev",
        "nodes /dev",
        "fresh devpts /dev/pts",
        "fresh tmpfs /dev/shm",
        "fresh mqueue /dev/mqueue",
        "put sandbox /mnt/mesos/sandbox",
        "protect",
        "mask",
        "pivot",
        "streams",
    ]


SHAPES: list[dict[str, Any]] = [
    {},
    {"security": {"readOnlyRootfs": True}},
    {"security": {"privileged": True}},
    {"namespaces": {"ipc": "host", "pid": "host", "cgroup": "host"}},
    {"name": "shop.web", "namespaces": {"ipc": "parent", "pid": "parent"}},
]


@pytest.mark.parametrize("spec", SHAPES, ids=str)
def test_the_hosts_tree_is_needed_before_the_root_and_gone_after(spec: dict[str, Any]) -> None:
    ops = [step["op"] for step in prepared(**spec).steps]
    root, pivot = ops.index("root"), ops.index("pivot")
    assert all(at < root for at, op in enumerate(ops) if op == "take")
    assert all(root < at < pivot for at, op in enumerate(ops) if op in ("fresh", "nodes", "put", "mask", "protect"))
    assert ops.index("directories") == root + 1, "the tree is written to first, or never"


@pytest.mark.parametrize("spec", SHAPES, ids=str)
def test_every_step_is_known_and_plain_data(spec: dict[str, Any]) -> None:
    steps = list(prepared(**spec).steps)
    assert {step["op"] for step in steps} <= OPERATIONS.keys()
    assert json.loads(json.dumps(steps)) == steps


def test_a_nested_sandbox_is_resolved_beneath_the_top_level_one() -> None:
    assert f"take {SANDBOX} containers/web" in lines(prepared(name="shop.web"))


def test_shared_memory_comes_from_where_the_ipc_namespace_does() -> None:
    assert "take /dev/shm parent" in lines(prepared(name="shop.web", namespaces={"ipc": "parent"}))
    assert "take /dev/shm" in lines(prepared(namespaces={"ipc": "host"}))
    assert "put shm /dev/shm" in lines(prepared(namespaces={"ipc": "host"}))


def test_the_hosts_cgroups_show_only_where_their_namespace_is_shared() -> None:
    assert not any("systemd" in line for line in lines(prepared()))
    shared = lines(prepared(namespaces={"cgroup": "host"}))
    assert "fresh cgroup /sys/fs/cgroup/systemd" in shared and "fresh cgroup2 /sys/fs/cgroup/unified" in shared


def test_on_a_host_with_v2_alone_its_own_cgroup_is_the_whole_view() -> None:
    alone = (replace(UNIFIED, mount="/sys/fs/cgroup"),)
    assert "put unified /sys/fs/cgroup" in lines(prepared(alone))
    nested = lines(prepared(alone, name="shop.web"))
    assert "take /sys/fs/cgroup/ours" in nested, "the parent's, whose namespace it is in"


def test_only_a_privileged_one_has_devices_and_unmasked_files() -> None:
    plain, privileged = prepared(), prepared(security={"privileged": True})
    assert all("nodev" in step["flags"] for step in plain.steps if step["op"] == "take")
    assert all("nodev" not in step["flags"] for step in privileged.steps if step.get("as") in ("root", "sandbox"))
    assert not {"mask", "protect"} & {step["op"] for step in privileged.steps}


MAPPED = frozenset({"user"})  # of a parent that shares all else with the host


@pytest.mark.parametrize(
    ("kind", "spec", "fresh", "taken"),
    [
        ("pid", {"pid": "host"}, "fresh proc /proc", "/proc"),
        ("network", {"network": "host"}, "fresh sysfs /sys", "/sys"),
        ("cgroup", {"cgroup": "host"}, "fresh cgroup2 /sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"),
        ("ipc", {"ipc": "host"}, "fresh mqueue /dev/mqueue", ""),
    ],
)
def test_in_a_user_namespace_what_is_the_hosts_is_taken_and_not_made(
    kind: str, spec: dict[str, str], fresh: str, taken: str
) -> None:
    """The kernel makes it for nobody but the owner of the namespace that it shows."""
    own = {"user": "private", "pid": "private", "network": "private", "cgroup": "private", "ipc": "private"}
    assert fresh in lines(prepared(namespaces=spec)) and f"take {taken}" not in lines(prepared(namespaces=spec))
    for shown in (
        lines(prepared(namespaces=own | spec)),
        lines(prepared(name="shop.web", inherited=MAPPED, namespaces={kind: "parent"})),
    ):
        assert fresh not in shown
        assert not taken or any(line.startswith(f"take {taken}") for line in shown)
        assert not taken or any(line.startswith("put") and line.endswith(f" {taken}") for line in shown)
    assert f"take {taken}" not in lines(prepared(namespaces=own))


def test_in_a_user_namespace_no_privilege_brings_devices_along() -> None:
    privileged = prepared(namespaces={"user": "private"}, security={"privileged": True})
    assert all("nodev" in step["flags"] for step in privileged.steps if step["op"] == "take")


def test_files_keep_their_owners_where_they_are_somebodys() -> None:
    info = prepared(namespaces={"user": "private", "network": "host", "ipc": "host"})
    assert {step["as"] for step in info.steps if step.get("idmap")} == {"root", "sandbox"}


@pytest.mark.parametrize(
    "tree", ["/", "/nowhere", "/nowhere/root", "/nowhere/root/containers/x/sandbox", "/nowhere/run"]
)
def test_a_root_that_would_show_our_own_state_is_refused(tree: str) -> None:
    with pytest.raises(Terminal, match="keeps its state"):
        prepared(tree=Path(tree))


def test_a_root_that_is_not_there_may_come_later(tmp_path: Path) -> None:
    with pytest.raises(Retryable, match="not a directory"):
        rootfs.locate("shop", str(tmp_path / "missing"))
    with pytest.raises(Terminal, match="absolute"):
        rootfs.locate("shop", "tree")
    (tmp_path / "link").symlink_to(tmp_path)
    assert rootfs.locate("shop", str(tmp_path / "link")) == tmp_path
