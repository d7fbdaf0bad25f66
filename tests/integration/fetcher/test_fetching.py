"""Uris in sandboxes: from a real server and the host's files, as the container's user, and never anywhere else."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.compression import zstd
from reconciler.runtime.fetcher.cache import Cache
from reconciler.runtime.fetcher.fetcher import Fetcher
from reconciler.states import ContainerState, Reason
from tests import processes
from tests.integration.runtime.world import Agent, World, until
from tests.server import Server

CONTENT = b"0123456789abcdef" * 40_000


def archive(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as made:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o755
        made.addfile(info, io.BytesIO(content))
    return file.getvalue()


async def refused(agent: Agent, uri: dict[str, Any]) -> str:
    """Why it is not launched; nothing is left of it."""
    with pytest.raises(Retryable) as caught:
        await agent.launch("bad", command=["true"], uris=[uri])
    assert caught.value.reason is Reason.FETCH_FAILED and agent.containerizer.containers() == []
    return caught.value.message


async def test_everything_is_there_before_the_payload_starts(either: World, server: Server, base: Path) -> None:
    server.files = {"run.sh": b"#!/bin/sh\necho run", "app.tgz": archive("bin/app", b"#!/bin/sh\necho app")}
    server.files["app.tzst"] = zstd.compress(gzip.decompress(archive("packed/app", b"#!/bin/sh\necho packed")))
    (base / "notes").write_text("from the host")
    server.files |= {"log.gz": gzip.compress(b"of gzip"), "log.bz2": bz2.compress(b", bzip2")}
    server.files |= {"log.xz": lzma.compress(b", xz"), "log.zst": zstd.compress(b", zstd")}
    uris = [
        {"uri": server.url("run.sh"), "executable": True},
        {"uri": server.url("log.gz")},
        *({"uri": server.url(f"log.{ending}"), "destination": f"log.of.{ending}"} for ending in ("bz2", "xz", "zst")),
        {"uri": server.url(f"to/{server.url('app.tgz')}"), "destination": "opt"},
        {"uri": server.url("app.tgz"), "extract": False, "destination": "kept/app.tgz"},
        {"uri": server.url("app.tzst")},
        {"uri": f"file://{base}/notes", "destination": "etc/notes"},
        {"uri": str(base / "notes"), "sha256": hashlib.sha256(b"from the host").hexdigest()},
    ]
    async with either.agent() as agent:
        script = "./run.sh; opt/bin/app; packed/app; cat etc/notes log log.of.*; ls kept"
        said = await agent.run("web", shell=script, uris=uris)
        assert said == ["run", "app", "packed", "from the hostof gzip, bzip2, xz, zstdapp.tgz"]
        await agent.destroy("web")


@pytest.mark.root
@pytest.mark.cgroup
async def test_it_is_done_as_the_user_of_the_container(world: World, server: Server, base: Path) -> None:
    """Who cannot read a file of the host gets no copy of it either."""
    server.files["app"] = CONTENT
    secret = base / "secret"
    secret.write_text("roots own")
    secret.chmod(0o600)
    async with world.agent() as agent:
        await agent.launch("web", command=["sleep", "60"], user="65534:65533", uris=[{"uri": server.url("app")}])
        status = (world.sandbox("web") / "app").stat()
        assert (status.st_uid, status.st_gid, status.st_size) == (65534, 65533, len(CONTENT))
        with pytest.raises(Retryable, match="Permission denied"):
            await agent.launch("db", command=["true"], user="65534", uris=[{"uri": str(secret), "cache": True}])
        await agent.destroy("web")


async def test_what_goes_wrong_names_the_uri_and_the_cause(either: World, server: Server, base: Path) -> None:
    server.files = {"app": CONTENT, "evil.tar": archive("../outside", b"!"), "broken.zip": b"no zip"}
    server.files |= {"broken.tzst": b"no zstd", "broken.gz": b"no gzip", "broken.xz": b"no xz", "broken.zst": b"?"}
    server.files |= {"broken.bz2": b"no bzip2", "half.gz": gzip.compress(CONTENT)[:-20]}
    os.mkfifo(base / "fifo")
    for uri, *why in (
        ({"uri": server.url("missing?token=x")}, server.url("missing:"), "404"),
        ({"uri": server.url("cut/app")}, "ended after 320000 of 640000 bytes"),
        ({"uri": server.url("to/file:///etc/passwd")}, "file:///etc/passwd"),
        ({"uri": server.url("app"), "sha256": "0" * 64}, hashlib.sha256(CONTENT).hexdigest()),
        ({"uri": server.url("evil.tar")}, "leads out"),
        ({"uri": server.url("broken.zip")}, "cannot be unpacked"),
        *(({"uri": server.url(f"broken.{kind}")}, "cannot be unpacked") for kind in ("tzst", "gz", "xz", "bz2", "zst")),
        ({"uri": server.url("half.gz")}, "cannot be unpacked"),
        ({"uri": "http://127.0.0.1:9/x"}, "refused"),
        ({"uri": str(base / "fifo")}, "no ordinary file"),
    ):
        async with either.agent() as agent:
            message = await refused(agent, uri)
        assert all(text in message for text in why), message
    assert [each.name for each in either.sandbox("bad").iterdir()] == []


async def test_destroyed_while_it_fetches(either: World, server: Server) -> None:
    """The child is killed, nothing half-fetched looks whole, and progress was told."""
    server.files["app"] = CONTENT
    async with either.agent() as agent:
        launch = asyncio.create_task(agent.launch("web", command=["true"], uris=[{"uri": server.url("stuck/app")}]))
        await until("it asks", lambda: server.asked)
        status = await agent.status("web")
        assert status.state is ContainerState.FETCHING and server.url("stuck/app") in status.message
        assert len(processes.fetchers()) == 1
        await agent.destroy("web")
        with pytest.raises(Retryable, match="destroyed"):
            await launch
        assert processes.fetchers() == [] and agent.containerizer.containers() == []
    assert not (either.sandbox("web") / "app").exists()


async def test_a_server_that_stalls_is_given_up(either: World, server: Server, base: Path) -> None:
    server.files["app"] = CONTENT
    fetcher = Fetcher(base / "cache", seconds=0.5)
    either.sandbox("web").mkdir(parents=True)
    config = either.config("web", command=["true"], uris=[{"uri": server.url("stuck/app")}])
    with pytest.raises(Retryable, match=r"no byte came for 0\.5 s"):
        await fetcher.fetch(config, lambda text: None)
    assert list(either.sandbox("web").iterdir()) == [] and processes.fetchers() == []


async def test_one_download_for_all_who_wait_and_none_for_who_comes_later(either: World, server: Server) -> None:
    server.files["app"] = CONTENT
    uris = [{"uri": server.url("stuck/app"), "cache": True, "executable": True}]
    async with either.agent() as agent:
        names = ["a", "b", "c"]
        launches = [asyncio.create_task(agent.launch(name, command=["sleep", "60"], uris=uris)) for name in names]
        await until("one asks", lambda: server.asked)
        await until("all wait", lambda: set(agent.containerizer.containers()) == set(names))
        await agent.destroy("a")  # perhaps the one that began it
        server.gate.set()
        found = await asyncio.gather(*launches, return_exceptions=True)
        assert isinstance(found[0], Retryable) and not any(isinstance(each, BaseException) for each in found[1:])
        await agent.launch("d", command=["sleep", "60"], uris=uris)
        assert len(server.asked) == 1
        for name in ("b", "c", "d"):
            file = either.sandbox(name) / "app"
            assert file.read_bytes() == CONTENT and stat.S_IMODE(file.stat().st_mode) == 0o755
            await agent.destroy(name)


async def test_the_least_recently_used_goes_first(base: Path) -> None:
    cache = Cache(base / "cache", largest=25)

    async def have(key: str) -> bool:
        """Whether it had to be downloaded."""
        asked = []

        async def download(fd: int, say: object) -> None:
            asked.append(key)
            os.write(fd, b"0123456789")

        os.close(await cache.get(key, download, lambda text: None))
        return bool(asked)

    (base / "cache").mkdir()
    (base / "cache" / "left.new").write_bytes(b"of an agent that died")
    assert [await have(key) for key in ("a", "b", "a", "c", "a", "b")] == [True, True, False, True, False, True]
    assert len(list((base / "cache").iterdir())) == 2
