"""Images from registries: a real one, and one that breaks off, lies, and leads elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.provisioner.store import Store
from tests import images, registry
from tests.integration.images.test_running import kept, provided
from tests.integration.runtime.world import World
from tests.registry import Answering, Stub

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

BIG = images.file("big", os.urandom(1 << 20))


@pytest.fixture
def layout(base: Path) -> Path:
    images.oci(base / "box", [images.base(), images.layer(BIG)], Cmd=["echo", "hello"])
    return base / "box"


@pytest.fixture
def server(layout: Path) -> Iterator[Stub]:
    with registry.stub(layout) as server:
        yield server


@pytest.mark.skipif(bool(registry.missing()), reason=registry.missing() or "-")
async def test_a_real_registry_is_pulled_from_by_tag_and_by_digest(world: World, layout: Path, base: Path) -> None:
    """One that wants credentials; of several machines' manifests this one's is taken."""
    auths = base / "config.json"
    world.settings = replace(world.settings, registry_auth=str(auths))
    with registry.running(base / "registry", guarded=True) as host:
        digest = registry.push(host, "team/box", "1.4", layout)
        async with world.agent() as agent:
            auths.write_text(json.dumps({"auths": {"other.example": {"auth": registry.SECRET}}}))
            with pytest.raises(Retryable, match="wants credentials; see --registry-auth"):
                await provided(agent, "a", f"{host}/team/box:1.4")
            auths.write_text(json.dumps({"auths": {host: {"auth": registry.SECRET}}}))
            for number, place in enumerate((":1.4", f"@{digest}", ":1.4-any")):
                name, reference = f"shop{number}", f"{host}/team/box{place}"
                assert await agent.run(name, **await provided(agent, name, reference)) == ["hello"]
            with pytest.raises(Retryable, match=r"404 .*MANIFEST_UNKNOWN"):
                await provided(agent, "c", f"{host}/team/box:2")
    assert len(kept(world)["layers"]) == 2 and kept(world)["tmp"] == []


async def test_a_token_is_asked_for_once_and_a_broken_download_goes_on_where_it_was(world: World, server: Stub) -> None:
    last = server.layers()[-1]

    def breaks_off(answer: Answering, body: bytes) -> bytes | None:
        if begin := answer.headers.get("Range"):
            start = int(begin.removeprefix("bytes=").rstrip("-"))
            answer.send(206, body[start:], {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})
        else:
            answer.send(200, body, cut=700_000)
        return None

    server.faults[last] = breaks_off
    async with world.agent() as agent:
        spec = await provided(agent, "shop", f"localhost:{server.port}/box")
        assert await agent.run("shop", **spec) == ["hello"]
    ranges = [asked for _, path, _, asked in server.asked if path.endswith(last)]
    assert ranges[0] is None and len(ranges) == 2 and 0 < int((ranges[1] or "")[6:-1]) <= 700_000
    assert sum(path == "/token" for _, path, _, _ in server.asked) == 1


async def test_a_token_is_given_for_the_credentials_of_its_registry_alone(
    world: World, server: Stub, base: Path
) -> None:
    auths, host = base / "config.json", f"localhost:{server.port}"
    world.settings = replace(world.settings, registry_auth=str(auths))
    server.credentials = f"Basic {registry.SECRET}"
    async with world.agent() as agent:
        for known in ("other.example", host):
            auths.write_text(json.dumps({"auths": {known: {"auth": registry.SECRET}}}))
            if known != host:
                with pytest.raises(Retryable, match="401"):
                    await provided(agent, "shop", f"{host}/box")
                assert server.credentials not in {given for _, _, given, _ in server.asked}
        assert await agent.run("shop", **await provided(agent, "shop", f"{host}/box")) == ["hello"]
    given = {path for _, path, given, _ in server.asked if given == server.credentials}
    assert given == {"/token"}


async def test_mirrors_are_asked_first_and_what_they_lack_comes_from_the_registry(
    world: World, server: Stub, layout: Path
) -> None:
    """One is away, one has all, then lies about a layer, then answers nothing."""
    with registry.stub(layout) as mirror:
        origin, last = f"localhost:{server.port}", server.layers()[-1]
        mirrors = (f"{origin}=127.0.0.1:9", f"{origin}=127.0.0.1:{mirror.port}", "other.example=127.0.0.1:9")
        world.settings = replace(world.settings, registry_mirrors=mirrors)
        async with world.agent() as agent:
            assert await agent.run("a", **await provided(agent, "a", f"{origin}/box")) == ["hello"]
            assert server.asked == [] and any(path.endswith(last) for _, path, _, _ in mirror.asked)
            await agent.destroy("a")
            for place, fault, asked in ((last, lambda answer, body: bytes(len(body)), last), ("/v2/", gone, "latest")):
                Store(world.root / "images").prune([])
                mirror.faults[place] = fault
                server.asked.clear()
                await provided(agent, "b", f"{origin}/box", "Always")
                assert any(path.endswith(asked) for _, path, _, _ in server.asked)
                assert len(kept(world)["layers"]) == 2


def gone(answer: Answering, body: bytes) -> None:
    answer.send(503, b"{}")


@pytest.mark.parametrize(
    ("where", "why"), [("manifests", "the manifest has the digest"), ("blobs", "digest|content|larger")], ids=str
)
async def test_what_has_another_digest_than_it_should_is_never_used(
    where: str, why: str, world: World, server: Stub
) -> None:
    server.faults[where] = lambda answer, body: body[:-1] + bytes([body[-1] ^ 1])
    async with world.agent() as agent:
        with pytest.raises(Retryable, match=why):
            await provided(agent, "shop", f"localhost:{server.port}/box@{server.manifest()}")
    assert kept(world)["tmp"] == [] and not list((world.root / "images/names").iterdir())


async def test_a_token_does_not_follow_to_another_host(world: World, server: Stub) -> None:
    def leads_elsewhere(answer: Answering, body: bytes) -> bytes | None:
        if answer.path.startswith("/elsewhere/"):
            return body
        place = f"http://127.0.0.1:{server.port}/elsewhere/{answer.path.rpartition('/')[2]}"
        answer.send(307, b"", {"Location": place})
        return None

    server.faults["sha256"] = leads_elsewhere
    async with world.agent() as agent:
        spec = await provided(agent, "shop", f"localhost:{server.port}/box")
        assert await agent.run("shop", **spec) == ["hello"]
    elsewhere = [token for _, path, token, _ in server.asked if path.startswith("/elsewhere/")]
    assert len(elsewhere) == 3 and set(elsewhere) == {None}
