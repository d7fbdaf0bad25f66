"""The launch plan as data: which steps a child takes, in which order, and what two isolators may not both want."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Terminal
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.environment import gather
from reconciler.runtime.isolators.filesystem import FilesystemLinuxIsolator, FilesystemPosixIsolator
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, PassiveIsolator, merge
from reconciler.runtime.isolators.namespaces import NamespacesIsolator
from reconciler.runtime.isolators.namespaces_user import POOL, UserNamespaceIsolator
from reconciler.runtime.kernel.cgroups import Hierarchy
from reconciler.runtime.launcher.steps import OPERATIONS
from reconciler.runtime.mesos import launch_plan
from reconciler.spec.model import ContainerSpec
from reconciler.spec.normal import digest

ROOT, RUNTIME = Path("/nowhere/root"), Path("/nowhere/run")
PARENTS = {"mount", "pid", "network", "uts", "ipc", "cgroup"}  # not the host's
HIERARCHIES = [Hierarchy("unified", 2, "/sys/fs/cgroup", frozenset({"memory"}))]


def config(**spec: Any) -> ContainerConfig:
    made = ContainerSpec.model_validate(spec)
    root, *below = made.name.split(".")
    sandbox = ROOT / "containers" / root / "sandbox" / "/".join(f"containers/{label}" for label in below)
    return ContainerConfig(made, digest(made), sandbox, ROOT / "containers" / made.name / "logs")


def plan(isolators: list[PassiveIsolator], *, privileged: bool = True, **spec: Any) -> dict[str, Any]:
    made = config(**spec)
    inherited = frozenset(PARENTS if made.spec.parent else ())
    context = Context(made.name, {}, RUNTIME / "containers" / made.name, inherited=inherited)
    info = merge(isolator.prepare(made, context) for isolator in isolators)
    return launch_plan.build(made, info, gather(made), launch_plan.Account(made.spec.user), privileged=privileged)


def linux(**spec: Any) -> dict[str, Any]:
    user = UserNamespaceIsolator(RUNTIME, POOL, "owner", lambda: [])
    return plan([NamespacesIsolator(), user, FilesystemLinuxIsolator(ROOT, RUNTIME, HIERARCHIES)], **spec)


def lines(found: dict[str, Any]) -> list[str]:
    """A step per line: the operation and what it is about. mqueue is left out: not every host has it mounted."""
    subjects = ("type", "source", "beneath", "what", "namespaces", "name", "of", "target", "data")
    said = [[step["op"], *(str(step[key]) for key in subjects if key in step)] for step in found["steps"]]
    return [" ".join(words) for words in said if "mqueue" not in words]


SANDBOX = "/nowhere/root/containers/shop/sandbox"
HIDDEN = [
    "mount tmpfs hidden /nowhere/root mode=755,size=64k",
    "mount tmpfs hidden /nowhere/run mode=755,size=64k",
]
COVERED = ["readonly /nowhere/root", "readonly /nowhere/run", "readonly /sys/fs/cgroup", "mount proc proc /proc"]


def test_the_plan_of_a_top_level_container() -> None:
    found = linux(name="shop", command=["web", "-v"], args=["x"], hostname="front", namespaces={"network": "private"})
    assert lines(found) == [
        "unshare ['cgroup']",
        "loopback",
        "hostname front",
        "mount /",
        "detach /nowhere/run/pins",
        "mount tmpfs shm /dev/shm mode=1777,size=67108864",
        f"take {SANDBOX}",
        *HIDDEN,
        f"mkdir {SANDBOX}",
        f"put sandbox {SANDBOX}",
        *COVERED,
        f"workdir {SANDBOX}",
    ]
    assert (found["argv"], found["init"], found["undumpable"]) == (["web", "-v", "x"], True, True)


def test_the_plan_of_a_nested_container_that_shares_pid_and_ipc_with_its_parent() -> None:
    nested = f"{SANDBOX}/containers/web"
    found = linux(name="shop.web", shell="x", workingDir="spool", namespaces={"pid": "parent", "ipc": "parent"})
    assert lines(found) == [
        "enter ['cgroup', 'ipc', 'uts', 'network'] parent",
        "mount /",
        "detach /nowhere/run/pins",
        "take /dev/shm parent",
        "put shm /dev/shm",
        f"take {SANDBOX} containers/web",
        *HIDDEN,
        f"mkdir {nested}",
        f"put sandbox {nested}",
        *COVERED,
        f"workdir {nested}/spool",
    ]
    assert found["argv"] == ["/bin/sh", "-c", "x"]


@pytest.mark.parametrize(("ipc", "mounted"), [("private", True), ("parent", True), ("host", False)])
def test_the_queues_shown_are_those_of_the_ipc_namespace(
    monkeypatch: pytest.MonkeyPatch, ipc: str, mounted: bool
) -> None:
    monkeypatch.setattr("os.path.ismount", lambda path: path == "/dev/mqueue")
    name = "shop" if ipc == "host" else "shop.web"
    steps = linux(name=name, shell="x", namespaces={"ipc": ipc})["steps"]
    assert any(step.get("type") == "mqueue" for step in steps) == mounted


def test_the_plan_of_a_posix_container_of_an_ordinary_user() -> None:
    found = plan([FilesystemPosixIsolator()], privileged=False, name="shop", shell="x", args=["a"], init=False)
    assert lines(found) == [f"workdir {SANDBOX}"]
    assert (found["argv"], found["init"], found["undumpable"]) == (["/bin/sh", "-c", "x", "sh", "a"], False, False)


SHAPES: list[dict[str, Any]] = [
    {"name": "a", "shell": "x"},
    {"name": "a", "shell": "x", "namespaces": {"pid": "host", "ipc": "host", "cgroup": "host"}},
    {"name": "a", "shell": "x", "namespaces": {"network": "private", "shmSize": "1Mi"}},
    {"name": "a.b", "shell": "x"},
    {"name": "a.b", "shell": "x", "namespaces": {"pid": "parent", "ipc": "parent", "cgroup": "private"}},
    {"name": "a.b.c", "command": ["x"], "user": "0:0", "workingDir": "/tmp"},
]


@pytest.mark.parametrize("spec", SHAPES, ids=str)
def test_every_plan_keeps_the_order_that_makes_it_safe(spec: dict[str, Any]) -> None:
    found = linux(**spec)
    said = lines(found)
    mounts = [at for at, step in enumerate(found["steps"]) if step["op"] in ("mount", "put", "readonly", "detach")]
    assert found["steps"][mounts[0]]["flags"] == ["rec", "slave"], "nothing of ours may reach the host's mounts"
    at = {word: next((i for i, line in enumerate(said) if line.startswith(word)), -1) for word in ("take /nowhere",)}
    hidden = [i for i, line in enumerate(said) if "hidden" in line]
    put = next(i for i, line in enumerate(said) if line.startswith("put sandbox"))
    assert at["take /nowhere"] < min(hidden) and max(hidden) < put, "the sandbox is saved from under what hides it"
    needs_host_proc = [i for i, line in enumerate(said) if " parent" in line and line.startswith(("take", "put"))]
    proc = next((i for i, line in enumerate(said) if line.startswith("mount proc")), len(said))
    assert all(i < proc for i in needs_host_proc)
    assert said[-1].startswith("workdir"), "the sandbox is entered before the user changes"
    assert [step["op"] for step in found["payload_steps"] + found["init_steps"]] == ["credentials", "credentials"]


@pytest.mark.parametrize("spec", SHAPES, ids=str)
def test_every_step_is_one_that_the_child_knows_and_plain_data(spec: dict[str, Any]) -> None:
    found = linux(**spec)
    assert {step["op"] for step in found["steps"]} <= OPERATIONS.keys()
    assert json.loads(json.dumps(found)) == found


def test_a_shared_pid_namespace_of_the_host_keeps_the_hosts_proc() -> None:
    assert not any("proc" in line for line in lines(linux(name="a", shell="x", namespaces={"pid": "host"})))


def test_a_holder_has_an_init_even_when_it_asks_for_none() -> None:
    found = linux(name="shop", init=False)
    assert found["argv"] is None and found["init"] is True


def test_the_environment_is_the_specs_and_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED", "secret")
    found = linux(name="shop", shell="x", user="65534:65534", env={"A": "1", "PATH": "/mine"})
    home = found["env"].pop("HOME")
    assert found["env"] == {"PATH": "/mine", "A": "1", "MESOS_SANDBOX": SANDBOX}
    assert home.startswith("/")


def test_the_user_may_be_a_name_or_numbers() -> None:
    root = launch_plan.Account("root")
    assert (root.uid, root.gid, root.home) == (0, 0, "/root") and 0 in root.groups
    unknown = launch_plan.Account("123456")
    assert (unknown.uid, unknown.gid, unknown.groups, unknown.home) == (123456, 123456, [123456], "/")
    assert launch_plan.Account("1:2").gid == 2
    own = launch_plan.Account(None)
    assert (own.uid, own.gid) == (os.geteuid(), os.getegid())


@pytest.mark.parametrize(
    "user", ["no-such-user", "no-such-user:5", ":5", "12:wheel", "-1", "99999999999", "4294967295"]
)
def test_a_user_this_host_cannot_have_is_refused(user: str) -> None:
    with pytest.raises(Terminal, match=r"spec\.user"):
        launch_plan.Account(user)


def test_isolators_are_merged_in_their_order() -> None:
    one = LaunchInfo(frozenset({"pid"}), frozenset({"ipc"}), ({"op": "a"},), {"X": "1"})
    two = LaunchInfo(frozenset({"uts"}), frozenset(), ({"op": "b"},), {"X": "1", "Y": "2"})
    assert merge([one, None, two]) == LaunchInfo(
        frozenset({"pid", "uts"}), frozenset({"ipc"}), ({"op": "a"}, {"op": "b"}), {"X": "1", "Y": "2"}
    )
    assert merge([]) == LaunchInfo()


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (LaunchInfo(env={"X": "2"}), "variable X: '1' and '2'"),
        (LaunchInfo(join=frozenset({"pid"})), "namespaces pid"),
    ],
)
def test_what_two_isolators_want_differently_is_an_error(other: LaunchInfo, what: str) -> None:
    with pytest.raises(Terminal, match=what):
        merge([LaunchInfo(namespaces=frozenset({"pid"}), env={"X": "1"}), other])
