"""Where the steps of volumes go, and the order that makes them safe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Terminal, Unsupported
from reconciler.runtime.isolators.filesystem import FilesystemLinuxIsolator
from reconciler.runtime.isolators.filesystem_rootfs import SANDBOX
from reconciler.runtime.isolators.isolator import Context, Mount
from reconciler.runtime.isolators.volumes import woven
from reconciler.runtime.launcher.steps import OPERATIONS
from tests.unit.runtime.test_plan import HIERARCHIES, ROOT, RUNTIME, config

TREE = Path("/srv/tree")


def plan(volumes: list[dict[str, Any]], *, own_root: bool = True, lacking: int | None = None, **spec: Any) -> list[str]:
    """A line per step; of each volume one `take`, `first` where it is shared."""
    made = config(name="shop", shell="x", volumes=volumes, **({"rootfs": str(TREE)} if own_root else {}), **spec)
    made = replace(made, rootfs=TREE) if own_root else made
    own = {each.name: f"{each.mount}/ours" for each in HIERARCHIES}
    info = FilesystemLinuxIsolator(ROOT, RUNTIME, HIERARCHIES).prepare(made, Context("shop", own, RUNTIME))
    mounts = {
        number: Mount(str(number), ({"op": "take", "as": str(number)},), first=each.get("propagation") == "shared")
        for number, each in enumerate(volumes)
        if number != lacking
    }
    steps = woven(made, replace(info, volumes=mounts), SANDBOX if own_root else made.sandbox_path)
    assert {step["op"] for step in steps} <= OPERATIONS.keys()
    json.dumps(steps)
    keys = ("as", "what", "sandbox", "target", "directories")
    return [" ".join([step["op"], *(str(step[key]) for key in keys if key in step)]) for step in steps]


def host(target: str, **more: Any) -> dict[str, Any]:
    return {"type": "hostPath", "source": "/etc", "target": target, **more}


def order(found: list[str], *lines: str) -> None:
    places = [found.index(line) for line in lines]
    assert places == sorted(places), found


@pytest.mark.parametrize("own_root", [True, False])
def test_sources_are_taken_while_the_host_is_there_and_put_outer_ones_first(own_root: bool) -> None:
    found = plan([host("/a/b"), host("/a"), host("x"), host("/a/b/c", propagation="shared")], own_root=own_root)
    sandbox = SANDBOX if own_root else "/nowhere/root/containers/shop/sandbox"
    order(found, "take 3", "mount /", "take 1", "take 0", "take 2", f"put sandbox {sandbox}", f"volume 2 {sandbox} x")
    order(found, f"put sandbox {sandbox}", "volume 1 /a", "volume 0 /a/b", "volume 3 /a/b/c")
    order(found, "take 2", "root" if own_root else "mount /nowhere/root")
    order(found, "volume 3 /a/b/c", "pivot" if own_root else "mount /proc")


def test_what_the_sandbox_lies_in_comes_before_it_and_what_lies_in_it_after() -> None:
    found = plan([host("/mnt"), host(f"{SANDBOX}/in//x/")])
    order(found, "volume 0 /mnt", f"put sandbox {SANDBOX}", f"volume 1 {SANDBOX} in/x")


def test_a_read_only_root_has_the_outermost_targets_made_before() -> None:
    found = plan([host("/a/b"), host("/a"), host("x")], security={"readOnlyRootfs": True})
    order(found, "points ['/a']", "readonly /", "volume 1 /a")


@pytest.mark.parametrize(
    ("volumes", "own_root", "why"),
    [
        ([host("x"), host(f"{SANDBOX}/x")], True, "is the target of another one too"),
        ([host(SANDBOX)], True, "the sandbox itself"),
        ([host("/nowhere")], False, "where reconciler keeps its state"),
        ([host("/nowhere/run/x")], False, "where reconciler keeps its state"),
    ],
)
def test_targets_that_this_place_refuses(volumes: list[dict[str, Any]], own_root: bool, why: str) -> None:
    with pytest.raises(Terminal, match=why):
        plan(volumes, own_root=own_root)


def test_a_volume_that_no_isolator_mounts_is_an_error() -> None:
    with pytest.raises(Unsupported, match=r"spec.volumes\[1\].type: needs the isolator volume/host_path"):
        plan([host("x"), host("y")], lacking=1)
