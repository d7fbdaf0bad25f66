"""A Docker Engine that answers late, or not at all: its own containers wait for it, nothing else does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests import delaying, engine, processes
from tests.e2e.checks import eventually, gone, instance, not_restarted, restarted, state, until
from tests.e2e.conftest import live
from tests.e2e.on_engine import boxed, executor
from tests.e2e.world import World, sleeper

pytestmark = [pytest.mark.root, pytest.mark.docker]
AT_ONCE = 8.0 * processes.PATIENCE


@pytest.fixture
def proxy(server: engine.Server) -> Iterator[delaying.Proxy]:
    with delaying.proxy(server.base, server.base / "engine.sock") as made:
        yield made


@pytest.fixture
def world(request: pytest.FixtureRequest, nursery: processes.Nursery, proxy: delaying.Proxy) -> Iterator[World]:
    for made in live(request.node, lambda: World(nursery, variables={"DOCKER_HOST": proxy.url})):
        yield made
        proxy.delay, proxy.stalled = 0.0, False


def test_an_engine_that_answers_late_keeps_nobody_else_waiting(world: World, proxy: delaying.Proxy) -> None:
    """Each answer after a second: the agent obeys at once, native containers converge, its own come to be, once."""
    world.write("web.yaml", boxed("web"))
    world.write("native.yaml", sleeper("native"))
    with world.agent():
        web, native = instance(world, "web"), instance(world, "native")
        executor(world, "web")
        proxy.delay = 1.0
        world.write("late.yaml", boxed("late"))
        os.kill(web.pid, signal.SIGKILL)
        os.kill(native.pid, signal.SIGKILL)
        native = restarted(world, native)
        began = time.monotonic()
        world.succeed("suspend", "native")
        world.succeed("status", "web")
        assert time.monotonic() - began < AT_ONCE
        state(world, "native", "Suspended")
        late = instance(world, "late", within=60)
        web = restarted(world, web, within=60)
        not_restarted(world, late)
        not_restarted(world, web)


def test_an_engine_that_never_answers_is_waited_for_by_its_containers_alone(
    world: World, proxy: delaying.Proxy
) -> None:
    """A new agent is ready without it; what it has is unknown, not dead, and is taken up when it answers."""
    world.write("web.yaml", boxed("web"))
    with world.agent() as agent:
        web = instance(world, "web")
        agent.kill()
    proxy.stalled = True
    row = world.rows()["web"]
    assert "does not answer" in row["message"] and row["status"] not in ("CrashLoop", "Failed", "Completed"), row
    world.write("native.yaml", sleeper("native"))
    with world.agent():
        native = instance(world, "native")
        assert "has not answered yet" in until(world, "web", lambda row: row["message"], "says why")["message"]
        assert web.alive
        world.delete("native.yaml")
        gone(world, "native", native)
        proxy.stalled = False
        eventually(lambda: world.rows()["web"]["pid"] == web.pid, "it is known again", within=40)
        not_restarted(world, web)


def test_a_container_that_was_made_when_the_agent_died_is_started_and_no_other(
    world: World, proxy: delaying.Proxy, server: engine.Server
) -> None:
    """It died before it knew: what was made is known by its labels, and what it was made from."""
    with world.agent() as agent:
        proxy.delay = 1.0
        world.write("web.yaml", boxed("web"))
        eventually(lambda: server.named(), "it is made", within=60)
        agent.kill()
    proxy.delay = 0.0
    (made,) = server.named().values()
    assert made["State"] == "created"
    with world.agent():
        instance(world, "web")
        assert [each["Id"] for each in server.named().values()] == [made["Id"]]
