"""Volumes of containers with a root of their own: where they are mounted, and what a hostile tree or sandbox gains."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import LaunchFailed, Retryable, Terminal
from tests.integration.runtime.world import World

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

SANDBOX = "/mnt/mesos/sandbox"


@pytest.fixture
def data(base: Path) -> Path:
    made = base / "data"
    (made / "below").mkdir(parents=True)
    (made / "file").write_text("data\n")
    return made


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def umount(*arguments: str) -> None:
    subprocess.run(["umount", *arguments], check=True)


def host(source: Path, target: str, **more: Any) -> dict[str, Any]:
    return {"type": "hostPath", "source": str(source), "target": target, **more}


async def test_targets_are_made_inside_outer_ones_first(world: World, tree: Path, data: Path) -> None:
    volumes = [
        host(data / "file", "/srv/data/below/inner/file"),
        {"type": "tmpfs", "target": "/srv/data/below/inner"},
        host(data, "/srv/data"),
        {"type": "tmpfs", "target": "spool"},
        host(data / "file", "/etc/one"),
    ]
    script = f"cat /srv/data/below/inner/file /etc/one /srv/data/file; cut -d' ' -f5 /proc/mounts; ls {SANDBOX}"
    async with world.agent() as agent:
        lines = await agent.run("shop", rootfs=str(tree), shell=script, volumes=volumes)
    assert lines[:3] == ["data"] * 3
    assert "spool" in lines
    assert (data / "below" / "inner").is_dir()
    assert list((data / "below" / "inner").iterdir()) == [], "what lies in the tmpfs is not on the host"


async def test_a_read_only_root_has_its_targets_made_first(world: World, tree: Path, data: Path) -> None:
    volumes = [host(data, "/new/dir"), host(data / "file", "/new/file"), {"type": "tmpfs", "target": "/new/dir/below"}]
    async with world.agent() as agent:
        script = "cat /new/dir/file /new/file; touch /new/x 2>/dev/null || echo refused"
        lines = await agent.run(
            "shop", rootfs=str(tree), shell=script, volumes=volumes, security={"readOnlyRootfs": True}
        )
    assert lines == ["data", "data", "refused"]


async def test_a_read_only_volume_keeps_the_flags_of_its_source(world: World, tree: Path, data: Path) -> None:
    """And of what is mounted below it, which is read-only too; another volume of the same source is not."""
    mount("-t", "tmpfs", "-o", "nosuid,nodev,noexec", "none", str(data))
    try:
        (data / "deep").mkdir()
        mount("-t", "tmpfs", "-o", "nosuid", "none", str(data / "deep"))
        try:
            volumes = [host(data, "/data", readOnly=True), host(data, "/again")]
            script = "grep -E ' /(data|again)(/deep)? ' /proc/mounts; touch /again/deep/x; touch /data/deep/y"
            async with world.agent() as agent:
                lines = await agent.run("shop", rootfs=str(tree), shell=script, volumes=volumes)
            found = {line.split(" ")[1]: set(line.split(" ")[3].split(",")) for line in lines}
            assert {"ro", "nosuid", "nodev", "noexec"} <= found["/data"]
            assert {"ro", "nosuid"} <= found["/data/deep"]
            assert {"rw", "nosuid", "nodev", "noexec"} <= found["/again"]
            assert [path.name for path in (data / "deep").iterdir()] == ["x"]
        finally:
            umount(str(data / "deep"))
    finally:
        umount(str(data))


@pytest.mark.parametrize("where", ["/evil/x", "/evil"])
async def test_a_link_of_the_tree_leads_a_target_nowhere_else(
    world: World, tree: Path, outside: Path, data: Path, where: str
) -> None:
    (tree / "evil").symlink_to(outside)
    async with world.agent() as agent:
        try:
            await agent.run("shop", rootfs=str(tree), shell="true", volumes=[host(data, where)])
        except LaunchFailed as error:
            assert "evil" in error.message
        await agent.destroy("shop")


async def test_a_link_of_the_tree_into_proc_is_no_target(world: World, tree: Path, data: Path) -> None:
    """CVE-2019-16884."""
    (tree / "evil").symlink_to("/proc/self")
    async with world.agent() as agent:
        with pytest.raises(LaunchFailed, match="/evil"):
            await agent.launch("shop", rootfs=str(tree), command=["true"], volumes=[host(data, "/evil/attr")])
        await agent.destroy("shop")


@pytest.mark.parametrize("own_root", [True, False], ids=["rootfs", "host"])
@pytest.mark.parametrize("part", ["source", "target"])
async def test_a_link_planted_in_the_sandbox_is_not_followed(
    world: World, tree: Path, outside: Path, part: str, own_root: bool
) -> None:
    """By a parent, for what is nested in it: as the source, on the way to it, or as the target."""
    root = {"rootfs": str(tree)} if own_root else {}
    shared = {"type": "sandboxPath", "scope": "parent", "source": "a/b", "target": "c/d"}
    async with world.agent() as agent:
        await agent.launch("shop", command=["sleep", "1000"])
        planted = world.sandbox("shop") / "a" if part == "source" else world.sandbox("shop.web") / "c"
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.symlink_to(outside)
        with pytest.raises((LaunchFailed, Terminal), match="a symbolic link is in the way"):
            await agent.launch("shop.web", command=["true"], volumes=[shared], **root)
        await agent.destroy("shop")


async def test_what_is_ours_or_missing_is_no_source(world: World, tree: Path, base: Path) -> None:
    link = base / "link"
    async with world.agent() as agent:
        for source in (world.root, world.run / "containers", base, Path("/")):
            link.unlink(missing_ok=True)
            link.symlink_to(source)
            with pytest.raises(Terminal, match="where reconciler keeps its state"):
                await agent.launch("shop", rootfs=str(tree), command=["true"], volumes=[host(link, "/x")])
        with pytest.raises(Terminal, match="is a device"):
            await agent.launch("shop", rootfs=str(tree), command=["true"], volumes=[host(Path("/dev/null"), "/x")])
        with pytest.raises(Retryable, match="No such file"):
            await agent.launch("shop", rootfs=str(tree), command=["true"], volumes=[host(base / "no", "/x")])
        with pytest.raises(LaunchFailed, match="a file cannot be on a directory"):
            file = tree / "etc" / "passwd"
            await agent.launch("shop", rootfs=str(tree), command=["true"], volumes=[host(file, "/tmp")])
        await agent.destroy("shop")
        with pytest.raises(LaunchFailed, match="/nowhere/at/all"):
            await agent.launch("shop", command=["true"], volumes=[host(tree, "/nowhere/at/all")])
        await agent.destroy("shop")
        with pytest.raises(Terminal, match="where reconciler keeps its state"):
            await agent.launch("shop", command=["true"], volumes=[host(tree, str(world.root.parent))])


async def test_propagation_is_what_was_asked_for(world: World, tree: Path, data: Path) -> None:
    """A mount made on the host later is seen by a slave; one made in the container is seen by the host if shared."""
    mount("-t", "tmpfs", "none", str(data))
    try:
        private = [host(data, "/x", propagation="shared")]
        async with world.agent() as agent:
            mount("--make-private", str(data))
            with pytest.raises(Terminal, match="which is private"):
                await agent.launch("shop", rootfs=str(tree), command=["true"], volumes=private)
            mount("--make-shared", str(data))
            (data / "late").mkdir()
            (data / "theirs").mkdir()
            volumes = [host(data, f"/{kind}", propagation=kind) for kind in ("private", "slave", "shared")]
            script = "mount -t tmpfs mine /shared/theirs; while :; do sleep 0.1; [ -e /slave/late/x ] && break; done; "
            script += "ls /private/late; echo seen; while [ -e /slave/late/x ]; do sleep 0.1; done"
            await agent.launch("shop", rootfs=str(tree), shell=script, volumes=volumes, security={"privileged": True})
            mount("-t", "tmpfs", "none", str(data / "late"))
            (data / "late" / "x").touch()
            assert (await agent.says("shop", "seen")) == "seen\n"
            assert os.path.ismount(data / "theirs")
            umount(str(data / "late"))
            await agent.ended("shop")
            await agent.destroy("shop")
            umount(str(data / "theirs"))
    finally:
        umount("-R", str(data))


@pytest.mark.parametrize("own_root", [True, False], ids=["rootfs", "host"])
async def test_files_keep_their_owners_in_a_user_namespace(
    world: World, tree: Path, data: Path, own_root: bool
) -> None:
    os.chown(data / "file", 7, 8)
    (data / "key").write_text("secret\n")
    volumes = [
        host(data, "data"),
        {"type": "tmpfs", "target": "memory", "mode": "0700"},
        {"type": "secret", "source": str(data / "key"), "target": "key"},
        {"type": "volume", "source": "kept", "target": "kept"},
        {"type": "sandboxPath", "source": "own", "target": "again"},
    ]
    spec: dict[str, Any] = {"rootfs": str(tree)} if own_root else {}
    spec |= {"namespaces": {"user": "private", "network": "private"}, "user": "1000:1001", "volumes": volumes}
    spec |= {"sysctls": {"net.core.somaxconn": "99"}}
    script = "stat -c %u:%g data/file key kept again; cat key /proc/sys/net/core/somaxconn; touch kept/x again/y"
    async with world.agent() as agent:
        lines = await agent.run("shop", shell=script, **spec)
    assert lines == ["7:8", "1000:1001", "1000:1001", "1000:1001", "secret", "99"]
    assert [path.stat().st_uid for path in (world.root / "volumes/kept/x", world.sandbox("shop") / "own/y")] == [
        1000,
        1000,
    ]
