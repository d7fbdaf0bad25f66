"""A container with a root file system has the same privileges, and can do no more to its tree than they allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.runtime.test_privileges import DOCKERS, SHOW, expected, parsed
from tests.integration.runtime.world import World

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


@pytest.mark.parametrize(("user", "held"), [("root", DOCKERS), ("web", 0)])
async def test_the_defaults_hold_inside_a_tree(world: World, tree: Path, user: str, held: int) -> None:
    async with world.agent() as agent:
        lines = await agent.run("shop", rootfs=str(tree), user=user, shell=SHOW)
        assert parsed("\n".join(lines)) == expected(held)


async def test_root_inside_can_neither_mount_nor_leave(world: World, tree: Path) -> None:
    tries = ("mount -t tmpfs x /tmp", "umount /proc", "unshare -r true", "mount -o remount,rw /sys", "hostname taken")
    async with world.agent() as agent:
        lines = await agent.run(
            "shop", rootfs=str(tree), shell="; ".join(f"{each} 2>/dev/null; echo $?" for each in tries)
        )
        assert "0" not in lines and len(lines) == len(tries)
        lines = await agent.run(
            "open", rootfs=str(tree), shell="mount -t tmpfs x /tmp; echo $?", security={"privileged": True}
        )
        assert lines == ["0"]
