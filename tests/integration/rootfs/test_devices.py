"""Devices in containers on real kernels: what is given can be used as given, what is not cannot be opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reconciler.runtime.kernel import mountinfo
from tests.integration.runtime.world import World

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.vm]

READER = {"capabilities": {"add": ["SYSLOG"]}}  # then only the device itself can be what is not to be opened
# read, then write; what is not there is neither
TRY = "for at in {}; do for how in '<' '>'; do [ -e $at ] && (eval \"exec 3$how$at\") 2>/dev/null"
TRY += " && echo yes || echo no; done; done"


@pytest.fixture
def kmsg(base: Path) -> Path:
    """A node of our own for /dev/kmsg (1:11), which anybody may write to, and which is on no default list."""
    node = base / "kmsg"
    os.mknod(node, stat.S_IFCHR | 0o622, os.makedev(1, 11))
    node.chmod(0o622)
    return node


def attempts(*places: object) -> str:
    return TRY.format(" ".join(map(str, places)))


async def test_a_device_is_there_with_its_permissions_and_nothing_done_to_it_reaches_the_host(
    world: World, tree: Path, kmsg: Path
) -> None:
    """Read: denied though the mode lets root; write: given. The same device under another name is as it is."""
    device = {"path": str(kmsg), "target": "/dev/log/kernel", "permissions": "w"}
    line = attempts("/dev/log/kernel") + "; chmod 0600 /dev/log/kernel; stat -c '%a %t:%T' /dev/log/kernel"
    async with world.agent() as agent:
        made = {"rootfs": str(tree), "devices": [device], "security": {**READER, "readOnlyRootfs": True}}
        assert await agent.run("web", shell=line, **made) == ["no", "yes", "600 1:b"]
        assert kmsg.stat().st_mode & 0o777 == 0o622, "the host's own node is as it was"
        assert await agent.run("none", shell=f"ls /dev/log; {attempts('/dev/kmsg')}", rootfs=str(tree)) == ["no", "no"]
        relative = {"rootfs": str(tree), "devices": [{"path": str(kmsg), "target": "node", "permissions": "rw"}]}
        relative |= {"security": READER}
        assert await agent.run("rel", shell=attempts("node"), **relative) == ["yes", "yes"]
    assert not (tree / "dev" / "log").exists(), "the tree is shared with others"
    assert not [each for each in mountinfo.read() if str(world.base) in each.target]


async def test_without_a_root_file_system_the_host_s_node_can_be_used(world: World, kmsg: Path) -> None:
    async with world.agent() as agent:
        assert await agent.run("bare", shell=attempts(kmsg), security=READER) == ["no", "no"]
        device = {"path": str(kmsg), "permissions": "w"}
        assert await agent.run("given", shell=attempts(kmsg), devices=[device], security=READER) == ["no", "yes"]


async def test_what_is_nested_has_at_most_what_is_around_it(world: World, tree: Path, kmsg: Path) -> None:
    """Even if a spec that nobody checked asks for more."""
    device = {"path": str(kmsg), "target": "/dev/kmsg"}
    async with world.agent() as agent:
        await agent.launch("shop", rootfs=str(tree), shell="sleep 1000", devices=[device | {"permissions": "w"}])
        given = {"rootfs": str(tree), "devices": [device | {"permissions": "w"}]}
        assert await agent.run("shop.less", shell=attempts("/dev/kmsg"), **given, security=READER) == ["no", "yes"]
        assert await agent.run("shop.none", shell=attempts("/dev/kmsg"), rootfs=str(tree)) == ["no", "no"]
        if world.settings.launcher == "linux" and "unified" in (await agent.status("shop")).cgroups:
            more = {"rootfs": str(tree), "devices": [device | {"permissions": "rw"}]}
            assert await agent.run("shop.more", shell=attempts("/dev/kmsg"), **more, security=READER) == ["no", "yes"]


async def test_in_a_mapped_user_namespace_the_mode_decides(world: World, tree: Path, kmsg: Path) -> None:
    device = {"path": str(kmsg), "target": "/dev/kmsg", "permissions": "rw"}
    made = {"rootfs": str(tree), "namespaces": {"user": "private"}, "devices": [device]}
    line = attempts("/dev/kmsg") + "; chmod 0666 /dev/kmsg 2>/dev/null || echo refused"
    async with world.agent() as agent:
        assert await agent.run("own", shell=line, **made) == ["no", "yes", "refused"]


async def test_what_is_no_device_is_refused_before_anything_runs(world: World, base: Path) -> None:
    async with world.agent() as agent:
        config = world.config("web", shell="true", devices=[{"path": str(base)}])
        assert agent.containerizer.refuses(config.spec) == f"spec.devices[0].path: {base} is no device"
