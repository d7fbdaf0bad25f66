"""Pulls, unpacking and fetching that a full disk or a killed agent interrupts: nothing half-done, and tried again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import images, processes, registry
from tests.e2e.checks import eventually, instance, message_contains, plan_is_empty
from tests.e2e.world import World, document
from tests.registry import Answering
from tests.server import serving

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

MIB = 1 << 20
BIG = os.urandom(24 * MIB)
QUICK = {"initial": "200ms", "max": "500ms"}


@contextlib.contextmanager
def small_disk(world: World) -> Iterator[Callable[[str], None]]:
    """The state directory is on a file system of 16 MiB; it can be made larger."""
    world.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "small", str(world.root)], check=True)

    def larger(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(world.root)], check=True)

    try:
        yield larger
    finally:
        subprocess.run(["umount", str(world.root)], check=True)


def used(world: World) -> int:
    found = os.statvfs(world.root)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def imaged(name: str, reference: str) -> str:
    return document(name, image={"reference": reference}, command=["sleep", "infinity"], backoff=QUICK)


def big(world: World) -> Path:
    images.oci(world.base / "box", [images.base(), images.layer(images.file("big", BIG))])
    return world.base / "box"


def sound(world: World, name: str) -> None:
    """What it has of its image is what the image has."""
    found = Path(f"/proc/{instance(world, name).pid}/root/big").read_bytes()
    assert hashlib.sha256(found).digest() == hashlib.sha256(BIG).digest()


def work(world: World) -> list[Path]:
    return [*(world.root / "images/tmp").iterdir(), *(world.root / "cache/uris").glob("*.new")]


@pytest.mark.parametrize("source", ["layout", "registry"])
def test_an_image_that_the_disk_has_no_room_for_is_told_and_comes_when_there_is(world: World, source: str) -> None:
    with contextlib.ExitStack() as stack:
        larger = stack.enter_context(small_disk(world))
        where = big(world)
        reference = f"oci:{where}"
        if source == "registry":
            reference = f"localhost:{stack.enter_context(registry.stub(where)).port}/box"
        with world.agent():
            world.write("web.yaml", imaged("web", reference))
            row = message_contains(world, "web", "No space left on device", within=30)
            assert row["reason"] == "ImageUnavailable" and "layer sha256:" in row["message"]
            eventually(lambda: used(world) < 8 * MIB, "what had come is removed", seen=lambda: used(world))
            larger("128m")
            sound(world, "web")
            assert work(world) == []
            plan_is_empty(world)
        world.succeed("destroy", "--all")


@pytest.mark.parametrize("cached", [False, True])
def test_a_file_that_the_disk_has_no_room_for_is_told_and_comes_when_there_is(world: World, cached: bool) -> None:
    with small_disk(world) as larger, serving() as server:
        server.files["data"] = BIG
        uri = {"uri": server.url("data"), "cache": cached}
        with world.agent():
            world.write("web.yaml", document("web", command=["sleep", "infinity"], uris=[uri], backoff=QUICK))
            row = message_contains(world, "web", f"{server.url('data')}: No space left on device", within=30)
            assert row["reason"] == "FetchFailed"
            eventually(lambda: used(world) < 8 * MIB, "what had come is removed", seen=lambda: used(world))
            larger("128m")
            instance(world, "web")
            assert (world.sandbox("web") / "data").read_bytes() == BIG
        world.succeed("destroy", "--all")


def test_an_agent_that_is_killed_while_it_pulls_and_fetches_leaves_nothing_half_done(world: World) -> None:
    """Two containers wait for theirs when it is killed, and run under the next one."""
    go, layout = threading.Event(), big(world)

    def halts(answer: Answering, body: bytes) -> None:
        answer.send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
        go.wait(60)
        with contextlib.suppress(OSError):
            answer.wfile.write(body[len(body) // 2 :])

    with registry.stub(layout) as site, serving() as server:
        site.faults[site.layers()[-1]] = halts
        server.files["data"] = BIG
        kept = {"uri": server.url("stuck/data"), "cache": True, "destination": "data"}
        world.write("pulls.yaml", imaged("pulls", f"localhost:{site.port}/box"))
        world.write("fetches.yaml", document("fetches", command=["sleep", "infinity"], uris=[kept], backoff=QUICK))
        agent = world.start().ready()
        message_contains(world, "pulls", "of 25 MiB")
        eventually(lambda: server.asked, "it fetches")
        eventually(lambda: len(work(world)) >= 2, "both are half there", seen=lambda: work(world))
        fetching = processes.fetchers(agent.process.pid)
        assert len(fetching) == 1
        agent.kill()
        eventually(lambda: not processes.alive(fetching[0].pid, fetching[0].start), "its fetcher is gone with it")
        go.set()
        server.gate.set()
        with world.agent():
            sound(world, "pulls")
            fetches = instance(world, "fetches")
            assert (world.sandbox("fetches") / "data").read_bytes() == BIG
            assert fetches.alive and work(world) == []
            plan_is_empty(world)
