"""GPUs of a made-up driver: which containers have which, what they can open, and who gets them next."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.isolators import gpu_nvidia
from reconciler.runtime.isolators.gpu_nvidia import NvidiaIsolator, Where
from tests.integration.runtime.world import World

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

# of no default list, and to be written to by anybody: /dev/kmsg and /dev/fuse stand for two GPUs
NODES = {"nvidia0": (1, 11), "nvidia1": (10, 229), "nvidiactl": (1, 3), "nvidia-uvm": (1, 5)}
OPEN = "for node in nvidia0 nvidia1 nvidiactl; do [ -e /dev/$node ] && echo $node; done; echo $NVIDIA_VISIBLE_DEVICES"
OPEN += (
    "; for n in '1 11' '10 229'; do rm -f /dev/x; mknod /dev/x c $n; (exec 3>/dev/x) 2>/dev/null && echo leaks; done"
)
OPEN += "; for node in nvidia0 nvidia1; do [ -e /dev/$node ] && (exec 3>/dev/$node) && echo opened; done; sleep 1000"


@pytest.fixture(autouse=True)
def driver(base: Path, monkeypatch: pytest.MonkeyPatch) -> Where:
    where = Where(base / "dev", base / "driver")
    where.dev.mkdir()
    for name, numbers in NODES.items():
        os.mknod(where.dev / name, stat.S_IFCHR | 0o666, os.makedev(*numbers))
        (where.dev / name).chmod(0o666)
    for minor in (1, 0):
        directory = where.driver / "gpus" / f"0000:0{minor}:00.0"
        directory.mkdir(parents=True)
        about = f"Model: \t\t Made Up {minor}\nIRQ:   \t\t 35\nGPU UUID: \t GPU-{minor}\nDevice Minor: \t {minor}\n"
        (directory / "information").write_text(about)
    monkeypatch.setattr(gpu_nvidia, "HOST", where)
    return where


def asking(tree: Path, count: int) -> dict[str, object]:
    return {"rootfs": str(tree), "isolators": {"gpu/nvidia": {"gpus": count}}, "shell": OPEN}


async def test_each_has_its_own_and_no_other_until_it_ends(world: World, tree: Path) -> None:
    async with world.agent() as agent:
        await agent.launch("one", **asking(tree, 1))
        assert (await agent.says("one", "opened")).split() == ["nvidia0", "nvidiactl", "GPU-0", "opened"]
        with pytest.raises(Retryable, match="both: 2 GPUs are asked for, 1 are free; one has the others"):
            await agent.launch("both", **asking(tree, 2))
    async with world.agent() as agent:  # which was not told who has what
        await agent.launch("two", **asking(tree, 1))
        assert (await agent.says("two", "opened")).split() == ["nvidia1", "nvidiactl", "GPU-1", "opened"]
        with pytest.raises(Retryable, match="0 are free; one, two has the others"):
            await agent.launch("three", **asking(tree, 1))
        await agent.launch("two.inner", **asking(tree, 1))
        assert "nvidia1" in await agent.says("two.inner", "opened")
        assert "leaks" not in agent.output("one") + agent.output("two") + agent.output("two.inner")
        await agent.containerizer.kill("one", 9)
        await agent.ended("one")
        await agent.launch("three", **asking(tree, 1))
        assert "GPU-0" in await agent.says("three", "opened")
        plain = await agent.run("plain", rootfs=str(tree), shell=OPEN.replace("; sleep 1000", ""))
        assert plain == [""], "who asks for none sees none"
        await agent.destroy("three")
        assert not list(world.run.glob("containers/three*"))


async def test_what_is_not_there_is_refused_before_anything_runs(world: World, tree: Path, driver: Where) -> None:
    async with world.agent() as agent:
        asked = world.config("web", **asking(tree, 3)).spec
        assert agent.containerizer.refuses(asked) == "spec.isolators.gpu/nvidia.gpus: 3 are asked for, this host has 2"
        (driver.dev / "nvidiactl").unlink()
        refused = agent.containerizer.refuses(asked)
        assert refused is not None and "3 cannot be had" in refused and "the driver of NVIDIA" in refused
        assert agent.containerizer.refuses(world.config("web", shell="true").spec) is None
    assert NvidiaIsolator(world.run, driver).support().level == "not here"
