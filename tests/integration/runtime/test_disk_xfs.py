"""Project quotas on a real XFS: the write over the limit fails, here and nowhere else, and nothing of it is left.

Needs a kernel with CONFIG_XFS_QUOTA, as the one of `make test-vm`; elsewhere it is skipped with what is missing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.runtime.kernel import project_quotas
from reconciler.runtime.kernel.project_quotas import Quota
from tests.conftest import ELSEWHERE
from tests.integration.runtime.world import World

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.vm]

MIB = 1 << 20
WRITE = "head -c {} /dev/zero > file && echo whole || echo cut; wc -c < file"


@pytest.fixture(autouse=True)
def mounted(base: Path) -> Iterator[None]:
    """The world's own directory is an XFS with project quotas."""
    image = base.with_name(f"{base.name}.img")
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    try:
        subprocess.run(["mkfs.xfs", "-q", image], check=True, timeout=100)
        subprocess.run(
            ["modprobe", "-aq", "loop", "xfs"], check=False, timeout=100
        )  # nobody loads them there on demand
        options = ["-t", "xfs", "-o", "loop,prjquota"]
        done = subprocess.run(
            ["mount", *options, image, base], capture_output=True, text=True, check=False, timeout=100
        )
        if done.returncode:
            pytest.skip(f"{ELSEWHERE}: this kernel mounts no XFS with project quotas ({done.stderr.splitlines()[0]})")
        base.chmod(0o755)
        yield
        subprocess.run(["umount", base], check=True, timeout=100)
    finally:
        image.unlink()


@pytest.fixture
def xfs(make_world, mounted: None) -> World:  # type: ignore[no-untyped-def]
    made: World = make_world("linux")
    made.settings = replace(made.settings, isolation=("default", "disk/xfs"))
    return made


def number(sandbox: Path) -> int:
    fd = os.open(sandbox, os.O_RDONLY)
    try:
        return project_quotas.project(fd)
    finally:
        os.close(fd)


def quota(base: Path, project: int) -> Quota:
    fd = os.open(base, os.O_RDONLY)
    try:
        return project_quotas.quota(fd, project)
    finally:
        os.close(fd)


def limited(size: int, shell: str) -> dict[str, object]:
    return {"resources": {"limits": {"disk": size}}, "shell": shell}


async def test_the_write_over_the_limit_fails_and_a_live_update_lets_it_through(xfs: World) -> None:
    """An old file counts as well; a nested container with a limit has its own, one without counts for its parent."""
    old = xfs.sandbox("shop")
    old.mkdir(parents=True)
    (old / "before").write_bytes(bytes(MIB))
    wait = "while [ ! -e {} ]; do sleep 0.1; done"
    twice = f"{wait.format('one')}; {WRITE.format(8 * MIB)}; {wait.format('two')}; {WRITE.format(8 * MIB)}; sleep 1000"
    async with xfs.agent() as agent:
        await agent.launch("shop", **limited(4 * MIB, twice))
        project = number(old)
        assert project == number(old / "before") == 5000
        inner = await agent.run("shop.inner", **limited(6 * MIB, WRITE.format(5 * MIB)))
        assert inner == ["whole", str(5 * MIB)] and number(xfs.sandbox("shop.inner")) == 5001
        assert (await agent.run("shop.plain", shell=WRITE.format(6 * MIB)))[0] == "cut"
        (xfs.sandbox("shop.plain") / "file").unlink()
        (old / "one").touch()
        assert "cut" in await agent.says("shop", "\n")
        assert (old / "file").stat().st_size <= 3 * MIB
        usage = await agent.containerizer.usage("shop")
        assert usage is not None
        assert (usage["disk_bytes"], usage["disk_limit_bytes"]) == (quota(xfs.base, project).used, 4 * MIB)
        more = xfs.config("shop", **limited(16 * MIB, "x")).spec.resources
        await agent.containerizer.update("shop", more.requests, more.limits)
        (old / "two").touch()
        await agent.says("shop", "whole")
    async with xfs.agent() as agent:  # another one, which knows by the file system alone
        more = xfs.config("shop", **limited(12 * MIB, "x")).spec.resources
        await agent.containerizer.update("shop", more.requests, more.limits)
        assert quota(xfs.base, project).limit == 12 * MIB
        await agent.destroy("shop")
        assert quota(xfs.base, project).limit is None, "no limit outlives its container"
        assert number(old) == project, "but its number stays with what it wrote"
