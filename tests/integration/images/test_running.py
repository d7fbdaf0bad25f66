"""Containers from images: their root, what the image says of how to run it, and what is left of either."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.compression import zstd
from reconciler.runtime.provisioner import layers, unpacking
from reconciler.states import Reason
from tests import images
from tests.images import directory, file, link
from tests.integration.runtime.test_exec import execute
from tests.integration.runtime.world import Agent, World, until

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

CHANGES = (
    file("etc/motd", "from above\n"),
    file("tmp/.wh..wh..opq"),
    file("etc/.wh.group"),
    directory("srv", uid=1000),
)


@pytest.fixture
def reference(base: Path) -> str:
    config = {"Entrypoint": ["sh", "-c"], "Cmd": ["id -u; pwd; env; cat /etc/motd; ls -a /tmp; ls /etc"]}
    config |= {"Env": ["A=image", "B=image"], "WorkingDir": "/srv", "User": "web", "StopSignal": "SIGQUIT"}
    return images.oci(base / "box", [images.base(), images.layer(*CHANGES)], **config)


async def provided(
    agent: Agent, name: str, reference: str, policy: str = "IfNotPresent", **spec: Any
) -> dict[str, Any]:
    """Its spec, once its image is at hand."""
    whole = {"image": {"reference": reference, "pullPolicy": policy}, **spec}
    await agent.containerizer.provide(agent.world.config(name, **whole).spec, lambda text: None)
    return whole


def kept(world: World) -> dict[str, list[str]]:
    base = world.root / "images"
    return {name: sorted(path.name for path in (base / name).iterdir()) for name in ("layers", "containers", "tmp")}


@pytest.mark.parametrize("backend", ["overlay", "copy"])
async def test_it_runs_as_its_image_says(
    backend: str, world: World, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "copy":
        monkeypatch.setattr(layers, "why_no_overlay", lambda base, count: "not today")
    async with world.agent() as agent:
        lines = await agent.run("shop", **await provided(agent, "shop", reference, env={"B": "spec"}))
        assert lines[:2] == ["1000", "/srv"] and {"A=image", "B=spec"} <= set(lines)
        assert lines[-7:] == [
            ".",
            "..",
            "hostname",
            "hosts",
            "motd",
            "passwd",
            "resolv.conf",
        ]  # three are not of the image
        assert any("from above" in line for line in lines)
        await agent.destroy("shop")
        assert kept(world)["containers"] == kept(world)["tmp"] == []
        assert len(kept(world)["layers"]) == 2


async def test_twenty_of_one_image_share_its_layers_and_nothing_that_they_write(world: World, reference: str) -> None:
    """All ask at once: one pull. Nothing is mounted on the host, and none sees where on the host its layers are."""
    names = [f"shop{number}" for number in range(20)]
    async with world.agent() as agent:
        said: list[str] = []
        run = {"command": ["sh", "-c", "touch /mine-$0; exec sleep 1000"], "user": "root"}
        configs = [world.config(name, image={"reference": reference}, **(run | {"args": [name]})) for name in names]
        await asyncio.gather(*(agent.containerizer.provide(each.spec, said.append) for each in configs))
        assert len(kept(world)["layers"]) == 2
        await asyncio.gather(*(agent.containerizer.launch(each) for each in configs))
        assert str(world.root) not in Path("/proc/self/mountinfo").read_text()
        for name in (names[0], names[-1]):
            upper = world.root / "images/containers" / name / "upper"
            await until("it wrote", lambda name=name, upper=upper: (upper / f"mine-{name}").exists())  # type: ignore[misc]
            _, out, _ = await execute(world, name, "sh", "-c", "ls -d /mine*; cat /proc/mounts")
            assert out.split()[0] == f"/mine-{name}" and out.count("/mine") == 1
            assert str(world.root) not in out and "nodev" in next(each for each in out.splitlines() if " / " in each)
        assert kept(world)["containers"] == sorted(names) and len(kept(world)["layers"]) == 2
        await asyncio.gather(*map(agent.destroy, names))
        assert kept(world)["containers"] == kept(world)["tmp"] == []


async def test_what_one_wrote_is_gone_with_its_run(world: World, reference: str) -> None:
    async with world.agent() as agent:
        spec = await provided(agent, "shop", reference, command=["sh", "-c", "ls /new; rm /etc/passwd; touch /new"])
        for _ in range(2):
            await agent.run("shop", **spec, user="0:0")
            await agent.destroy("shop")
        assert agent.output("shop", "stderr").count("No such file") == 1


async def test_a_tree_deeper_than_any_recursion_goes_with_its_run(world: World, reference: str) -> None:
    script = "i=0; while [ $i -lt 1500 ]; do busybox mkdir d; cd d; i=$((i+1)); done; echo deep; exec sleep 1000"
    async with world.agent() as agent:
        await agent.launch("shop", **await provided(agent, "shop", reference, command=["sh", "-c", script], user="0"))
        await agent.says("shop", "deep")
        await agent.destroy("shop")
        assert kept(world)["containers"] == kept(world)["tmp"] == []


async def test_the_stop_signal_is_the_images(world: World, reference: str) -> None:
    async with world.agent() as agent:
        script = "trap 'echo quits; exit 7' QUIT; echo ready; while true; do sleep 0.1; done"
        await agent.launch("shop", **await provided(agent, "shop", reference, command=["sh", "-c", script]))
        await agent.says("shop", "ready")
        ended = await agent.destroy("shop", grace=10)
        assert ended is not None and ended.code == 7


async def test_a_nested_one_has_an_image_of_its_own(world: World, reference: str) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=["sleep", "1000"])
        spec = await provided(agent, "shop.web", reference, command=["sh", "-c", "cat /etc/motd; ls /"])
        assert "from above" in (await agent.run("shop.web", **spec))[0]
        await agent.destroy("shop")
        assert kept(world)["containers"] == []


@pytest.mark.parametrize("form", ["docker", "oci", "zstd"])
async def test_archives_are_taken_as_well(form: str, world: World, base: Path) -> None:
    if form == "zstd":
        reference = images.oci(base / "box", [images.base()], pack=zstd.compress, Cmd=["echo", "hello"])
    else:
        make = images.docker_archive if form == "docker" else images.oci_archive
        reference = make(base / "box.tar", [images.base()], Cmd=["echo", "hello"])
    async with world.agent() as agent:
        assert await agent.run("shop", **await provided(agent, "shop", reference)) == ["hello"]


async def test_pull_policies(world: World, base: Path) -> None:
    reference = images.docker_archive(base / "box.tar", [images.base()], Cmd=["echo", "one"])
    async with world.agent() as agent:
        with pytest.raises(Retryable, match="pullPolicy is Never") as caught:
            await provided(agent, "shop", reference, "Never")
        assert caught.value.reason is Reason.IMAGE_UNAVAILABLE
        said: list[str] = []
        for policy, cmd in (("IfNotPresent", "one"), ("IfNotPresent", "two"), ("Never", "two"), ("Always", "two")):
            images.docker_archive(base / "box.tar", [images.base()], Cmd=["echo", cmd])
            await agent.run("shop", **await provided(agent, "shop", reference, policy))
            said += agent.output("shop").split()
            await agent.destroy("shop")
        assert said == ["one", "one", "one", "two"]


async def test_a_bad_image_leaves_nothing_and_says_what_is_wrong(world: World, base: Path) -> None:
    reference = images.oci(base / "bad", [images.base(), images.layer(link("x", "/"), file("../../x"))])
    async with world.agent() as agent:
        with pytest.raises(Retryable, match="leads out of it"):
            await provided(agent, "shop", reference)
        with pytest.raises(Retryable, match="No such file"):
            await provided(agent, "shop", f"oci:{base}/missing")
        assert kept(world)["tmp"] == [] and not list((world.root / "images/names").iterdir())


async def test_a_pull_that_nobody_waits_for_any_more_ends_and_leaves_nothing(
    world: World, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two wait for it, both are cancelled; meanwhile the loop runs on."""
    entered = threading.Event()
    real = unpacking.unpack

    def slowly(file: Any, layer: Any, directory: str, check: Any) -> Any:
        entered.set()
        while True:
            check()

    async with world.agent() as agent:
        monkeypatch.setattr(unpacking, "unpack", slowly)
        both = [asyncio.create_task(provided(agent, name, reference)) for name in ("one", "two")]
        await until("it unpacks", entered.is_set)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        await until("nothing is left", lambda: kept(world)["tmp"] == [] and kept(world)["layers"] == [])
        monkeypatch.setattr(unpacking, "unpack", real)
        await provided(agent, "one", reference)


async def test_what_a_dead_agent_left_is_swept_and_what_runs_stays(world: World, reference: str) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", **await provided(agent, "shop", reference, command=["sleep", "1000"]))
        pid = await agent.pid("shop")
    for left in ("tmp/half/tree", "containers/other/upper"):
        (world.root / "images" / left).mkdir(parents=True)
    async with world.agent() as agent:
        assert kept(world)["tmp"] == [] and kept(world)["containers"] == ["shop"]
        assert await agent.pid("shop") == pid
        assert (await execute(world, "shop", "cat", "/etc/motd"))[1] == "from above\n"


async def test_nobody_else_may_enter(world: World, reference: str) -> None:
    async with world.agent() as agent:
        await provided(agent, "shop", reference)
    assert (world.root / "images").stat().st_mode & 0o777 == 0o700
