"""What a container on an engine is at, as `ps` shows it, and what it means to take it away in each state."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest

from tests import engine, images, processes, registry
from tests.e2e.checks import eventually, gone, instance, message_contains, not_restarted, restarted, until
from tests.e2e.on_engine import boxed, live_on
from tests.e2e.world import World
from tests.registry import Answering, Stub
from tests.server import serving

pytestmark = [pytest.mark.root, pytest.mark.docker]


@pytest.fixture
def world(request: pytest.FixtureRequest, nursery: processes.Nursery, server: engine.Server) -> Iterator[World]:
    yield from live_on(request, nursery, server)


@contextlib.contextmanager
def slow(world: World) -> Iterator[tuple[Stub, threading.Event]]:
    """A registry whose image comes whole once the event is set."""
    go = threading.Event()

    def halts(answer: Answering, body: bytes) -> None:
        answer.send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
        go.wait(60)
        with contextlib.suppress(OSError):
            answer.wfile.write(body[len(body) // 2 :])

    images.oci(world.base / "box", [images.base(), images.layer(images.file("big", os.urandom(1 << 20)))])
    with registry.stub(world.base / "box") as server:
        server.faults[server.layers()[-1]] = halts
        try:
            yield server, go
        finally:
            go.set()


def at(world: World, name: str, status: str, state: str) -> None:
    row = until(world, name, lambda row: (row["status"], row["state"]) == (status, state), f"{status}, {state}")
    assert row["pid"] is None or state == "DESTROYING"


def forgotten(world: World, name: str) -> None:
    eventually(lambda: name not in world.rows(), f"{name} is gone", seen=lambda: world.rows())


def test_pulling_ends_nothing_and_is_given_up_when_nobody_wants_it(world: World, server: engine.Server) -> None:
    """The old one runs on, through a pull that fails too, which is tried again later each time."""
    with slow(world) as (site, go):
        reference = f"localhost:{site.port}/box"
        world.write("web.yaml", boxed("web"))
        with world.agent():
            web = instance(world, "web")
            for _ in range(5):  # more than pull at a time
                world.write("new.yaml", boxed("new", image={"reference": reference}))
                at(world, "new", "Pulling", "PULLING")
                world.delete("new.yaml")
                forgotten(world, "new")
            world.write("web.yaml", boxed("web", image={"reference": "localhost:1/none"}))
            row = message_contains(world, "web", "none:latest cannot be pulled", "trying again at")
            assert row["reason"] == "ImageUnavailable"
            world.write("web.yaml", boxed("web", image={"reference": reference}))
            message_contains(world, "web", "its new version waits for its image", "pulling")
            not_restarted(world, web)
            go.set()
            web = restarted(world, web, by="image.reference", within=30)
            world.delete("web.yaml")
            gone(world, "web", web)
        server.api.remove_image(reference)


def test_a_pull_under_way_does_not_keep_an_agent_from_ending(world: World, server: engine.Server) -> None:
    """The next one goes on with it."""
    with slow(world) as (site, go):
        reference = f"localhost:{site.port}/box"
        world.write("web.yaml", boxed("web", image={"reference": reference}))
        with world.agent() as agent:
            at(world, "web", "Pulling", "PULLING")
            assert agent.stop(within=10 * processes.PATIENCE) == 0
        go.set()
        with world.agent():
            web = instance(world, "web")
            world.delete("web.yaml")
            gone(world, "web", web)
        server.api.remove_image(reference)


def test_fetching_is_given_up_with_its_container(world: World, server: engine.Server) -> None:
    with serving() as site:
        site.files["data"] = bytes(1 << 20)
        world.write("web.yaml", boxed("web", uris=[{"uri": site.url("stuck/data")}]))
        with world.agent() as agent:
            at(world, "web", "Starting", "FETCHING")
            eventually(lambda: len(processes.fetchers(agent.process.pid)) == 1, "its child is there")
            world.delete("web.yaml")
            forgotten(world, "web")
            assert processes.fetchers(agent.process.pid) == [] and server.named() == {}


def test_destroying_lasts_as_long_as_its_grace_and_a_file_put_back_is_one_new_container(
    world: World, server: engine.Server
) -> None:
    stubborn = boxed("web", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", killPolicy={"gracePeriod": "4s"})
    world.write("web.yaml", stubborn)
    with world.agent():
        web = instance(world, "web")
        world.delete("web.yaml")
        at(world, "web", "Stopping", "DESTROYING")
        world.write("web.yaml", stubborn)
        until(world, "web", lambda row: row["status"] == "Running" and row["pid"] != web.pid, "another runs", within=30)
        assert not web.alive and len(server.named()) == 1
