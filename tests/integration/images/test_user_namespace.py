"""Images in user namespaces: their files keep their owners, and so does on the disk what is written over them."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.isolators.namespaces_user import IDS
from reconciler.runtime.provisioner import layers
from tests import images
from tests.images import directory, file
from tests.integration.images.test_running import kept, provided
from tests.integration.runtime.test_exec import execute
from tests.integration.runtime.world import World
from tests.integration.usernamespace.test_user_namespace import ids

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

OWN: dict[str, Any] = {"namespaces": {"user": "private"}}
BIND_LOW = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # vfs_cap_data: revision 2, effective, net_bind_service
CAPABLE = {"SCHILY.xattr.security.capability": BIND_LOW.decode("latin-1")}

BELOW = (
    directory("srv", uid=1000, gid=1001),
    file("srv/mine", "below", uid=1000, gid=1001),
    file("srv/far", "x", uid=IDS + 7),
    directory("gone"),
    file("gone/old"),
)
ABOVE = (
    directory("srv", uid=1000, gid=1001),
    file("srv/top", "above", 0o4755, uid=1000),
    directory("gone"),
    file("gone/.wh..wh..opq"),
    file("gone/new"),
)
WRITTEN = {".": (0, 0), "made": (0, 0), "theirs": (5, 6), "srv": (1000, 1001), "srv/mine": (1000, 1001)}


@pytest.fixture
def reference(base: Path) -> str:
    return images.oci(base / "box", [images.base(), images.layer(*BELOW), images.layer(*ABOVE)])


@pytest.mark.parametrize("backend", ["overlay", "copy"])
async def test_files_keep_their_owners_both_ways(
    backend: str, world: World, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a kernel of before 5.19, too, where each container gets a copy."""
    if backend == "copy":
        monkeypatch.setattr(layers, "why_no_mapped_overlay", lambda base, count: "not yet")
    script = """
    stat -c '%u:%g %a %n' /etc/passwd /srv /srv/mine /srv/top /srv/far /tmp; ls /gone
    echo more >> /srv/mine; touch /made /theirs; chown 5:6 /theirs; rm /etc/group; exec sleep 1000
    """
    async with world.agent() as agent:
        run = {"command": ["sh", "-c", script], **OWN}
        for name in ("one", "two"):
            await agent.launch(name, **await provided(agent, name, reference, **run))
        lines = (await agent.says("one", "new")).splitlines()
        assert lines[:4] == [
            "0:0 644 /etc/passwd",
            "1000:1001 755 /srv",
            "1000:1001 644 /srv/mine",
            "1000:0 4755 /srv/top",
        ]
        assert lines[4:] == ["65534:0 644 /srv/far", "0:0 1777 /tmp", "new"]
        assert ids(await agent.pid("one"))[0] != ids(await agent.pid("two"))[0]
        nested = ["sh", "-c", "stat -c %u /srv/mine; cat /srv/mine; touch /made; ls /theirs; exec sleep 1000"]
        await agent.launch("one.below", **await provided(agent, "one.below", reference, command=nested))
        assert (await agent.says("one.below", "below")).split() == ["1000", "below"]
        await agent.says("one.below", "No such file", "stderr")
        assert ids(await agent.pid("one.below")) == ids(await agent.pid("one"))
        first = ids(await agent.pid("one"))[0] if backend == "overlay" else 0
        own = world.root / "images/containers"
        for name, expected in (("one", WRITTEN), ("one.below", {"made": (0, 0)})):
            upper = own / name / ("upper" if backend == "overlay" else "root")
            found = {path: (upper / path).stat() for path in expected}
            assert {path: (each.st_uid - first, each.st_gid - first) for path, each in found.items()} == expected
        _, out, _ = await execute(world, "one", "cat", "/proc/mounts")
        assert str(world.root) not in out and "nodev" in next(each for each in out.splitlines() if " / " in each)
        await agent.destroy("one")
        await agent.destroy("two")
        assert kept(world)["containers"] == kept(world)["tmp"] == []


async def test_capabilities_of_files_hold_inside(world: World, base: Path) -> None:
    able = file("able/grep", Path("/bin/busybox").read_bytes(), 0o755, pax_headers=CAPABLE)
    reference = images.oci(base / "box", [images.base(), images.layer(directory("able"), able)])
    async with world.agent() as agent:
        run = {"command": ["/able/grep", "CapPrm", "/proc/self/status"], "user": "1000", **OWN}
        run["security"] = {"noNewPrivileges": False}
        (line,) = await agent.run("shop", **await provided(agent, "shop", reference, **run))
        assert int(line.split()[1], 16) == 1 << 10


async def test_this_kernels_overlays_take_id_mapped_layers(tmp_path: Path) -> None:
    """The probe says what the reference kernels can, and leaves nothing."""
    assert layers.why_no_mapped_overlay(tmp_path, 3) == "" and list(tmp_path.iterdir()) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        assert "found out" in layers.why_no_mapped_overlay(tmp_path, 3)
