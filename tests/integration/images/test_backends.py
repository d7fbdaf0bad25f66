"""How images become roots, and what of the rest of them: directories that they want to be volumes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import LaunchFailed, Retryable, Terminal
from reconciler.runtime.provisioner import layers
from reconciler.runtime.provisioner.store import Store
from tests import images
from tests.images import directory, file, link
from tests.integration.images.test_running import kept, provided
from tests.integration.runtime.world import World

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

BELOW = (directory("srv", uid=1000), file("srv/word", "below"), file("srv/old"), file(".wh.never"))
ABOVE = (directory("srv", uid=1000), file("srv/word", "above\n"), file("srv/.wh.old"), link("way", "srv"))


@pytest.fixture
def reference(base: Path) -> str:
    made = [images.base(), images.layer(*BELOW), images.layer(*ABOVE)]
    return images.oci(base / "box", made, Volumes={"/way": {}, "/new/one/": {}, "/own": {}})


def backed(world: World, backend: str) -> None:
    world.settings = replace(world.settings, image_provisioner_backend=backend)


def test_a_copy_keeps_what_is_no_data_as_holes(tmp_path: Path) -> None:
    lower, size = tmp_path / "lower", 1 << 40
    lower.mkdir()
    for name, places in {"none": (), "some": (4096, 1 << 30, size - 3)}.items():
        with (lower / name).open("wb") as file:
            for place in places:
                file.seek(place)
                file.write(b"end")
            file.truncate(size)
    (lower / "empty").touch()
    (lower / "full").write_bytes(b"full" * 5000)
    layers.copied([lower], tmp_path / "root")
    for name, blocks in {"none": 0, "some": 3 << 20}.items():
        found = (tmp_path / "root" / name).stat()
        assert found.st_size == size and found.st_blocks * 512 <= blocks
    assert os.pread(os.open(tmp_path / "root" / "some", os.O_RDONLY | os.O_CLOEXEC), 9, 1 << 30) == b"end" + bytes(6)
    assert (tmp_path / "root/empty").read_bytes() == b"" and (tmp_path / "root/full").read_bytes() == b"full" * 5000


@pytest.mark.parametrize("user", ["host", "private"])
async def test_bind_shows_one_read_only_tree_to_all(user: str, world: World, reference: str) -> None:
    backed(world, "bind")
    script = "cat /srv/word; ls -a / /srv; stat -c '%u %n' /srv; touch /x /etc/x; touch $MESOS_SANDBOX/mine; sleep 1000"
    async with world.agent() as agent:
        run = {"command": ["sh", "-c", script], "namespaces": {"user": user}}
        volume = {"type": "image", "source": reference, "target": "box"}
        for name in ("one", "two"):
            await agent.launch(name, **await provided(agent, name, reference, volumes=[volume], **run))
            said = (await agent.says(name, "1000 /srv")).split()
            assert said[0] == "above" and not {"never", "old"} & set(said) and {"mnt", "own"} <= set(said)
            assert (await agent.says(name, "/etc/x", "stderr")).count("Read-only file system") == 2
        tree = [
            layer for layer in kept(world)["layers"] if (world.root / "images/layers" / layer / "tree/mnt").exists()
        ]
        assert len(tree) == 1 and len(kept(world)["layers"]) == 5, "one tree for roots, one for volumes"
        Store(world.root / "images").prune([])
        assert len(kept(world)["layers"]) == 2 and tree[0] in kept(world)["layers"]
        assert (world.sandbox("one") / "mine").exists()


async def test_what_bind_cannot_give_is_said(world: World, reference: str) -> None:
    backed(world, "bind")
    async with world.agent() as agent:
        volume = {"type": "image", "source": reference, "target": "box", "readOnly": False}
        why = agent.containerizer.refuses(world.config("shop", command=["true"], volumes=[volume]).spec)
        assert why is not None and "read-only" in why
        spec = await provided(
            agent, "shop", reference, command=["true"], volumes=[{"type": "tmpfs", "target": "/lack"}]
        )
        with pytest.raises(
            LaunchFailed, match="/lack: it is not there, and cannot be made: the file system is read-only"
        ):
            await agent.launch("shop", **spec)


async def test_overlay_when_asked_for_is_never_a_copy(
    world: World, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "why_no_overlay", lambda base, count: "not today")
    backed(world, "overlay")
    async with world.agent() as agent:
        with pytest.raises(Retryable, match="not today"):
            await agent.launch("shop", **await provided(agent, "shop", reference, command=["true"]))
    assert kept(world)["containers"] == []


@pytest.mark.parametrize(("backend", "user"), [("overlay", "host"), ("copy", "private"), ("bind", "private")])
async def test_an_images_volume_is_a_directory_of_the_runs_own(
    backend: str, user: str, world: World, reference: str
) -> None:
    """With what the image has there, writable whatever the root is, anew in each run; the spec's own comes first."""
    backed(world, backend)
    script = """cat /srv/word; ls /srv /new/one; stat -c '%u %n' /srv /new/one
    grep -cE ' (/srv|/new/one) ' /proc/mounts
    echo mine > /own/file; echo more >> /srv/word; touch /new/one/x; touch /x"""
    async with world.agent() as agent:
        own = {"type": "sandboxPath", "source": "own", "target": "/own"}
        run: dict[str, Any] = {"security": {"readOnlyRootfs": True}, "namespaces": {"user": user}, "volumes": [own]}
        spec = await provided(agent, "shop", reference, command=["sh", "-c", script], **run)
        for _ in range(2):
            lines = await agent.run("shop", **spec)
            assert lines == ["above", "/new/one:", "", "/srv:", "word", "1000 /srv", "0 /new/one", "2"]
            assert agent.output("shop", "stderr").count("Read-only") == 1
            await agent.destroy("shop")
        assert (world.sandbox("shop") / "own/file").read_text() == "mine\n"
        assert kept(world)["containers"] == kept(world)["tmp"] == []


async def test_a_volume_that_cannot_be_is_refused(world: World, base: Path) -> None:
    async with world.agent() as agent:
        for volume, why in (("/proc/x", "which the kernel fills"), ("/etc/passwd", "is no directory")):
            reference = images.oci(base / volume.replace("/", "-"), [images.base()], Volumes={volume: {}})
            with pytest.raises(Terminal, match=why):
                await agent.launch("shop", **await provided(agent, "shop", reference, command=["true"]))
