"""Images come before anything is ended for them, hold nobody else up, and are given up when they are not wanted."""

from __future__ import annotations

import pytest

from reconciler.errors import Retryable
from reconciler.loop import backoff
from reconciler.loop.settings import Settings
from reconciler.loop.suspending import Suspension
from reconciler.states import Reason, Status
from tests.unit.loop.values import document
from tests.unit.loop.world import World, clock, play

OLD, NEW = (f"image: {{reference: 'oci:/{each}'}}" for each in ("one", "two"))
MISSING = Retryable("image oci:/two: no such directory", Reason.IMAGE_UNAVAILABLE)


@pytest.fixture
def world() -> World:
    return World(settings=Settings(concurrency=1))


def test_what_runs_goes_on_until_the_image_of_its_new_version_is_there(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web", OLD)
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.containers.of("web").pull_seconds = 60.0
        world.files.texts["web.yaml"] = document("web", NEW)
        await agent.until(lambda: "waits for its image: pulling it" in world.records.rows["web"].message)
        assert (world.status("web"), world.containers.launches["web"]) == ("Running", 1)
        await agent.until(lambda: world.containers.launches["web"] == 2)
        await agent.kill()

    play(scene())


def test_an_image_that_cannot_be_had_ends_nothing_and_is_tried_again(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web", OLD)
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.containers.of("web").pull_error = MISSING
        world.files.texts["web.yaml"] = document("web", NEW)
        await agent.until(lambda: world.containers.provided["web"] == 4)
        row = world.records.rows["web"]
        assert (row.status, row.reason) == (Status.RUNNING, Reason.IMAGE_UNAVAILABLE)
        assert "no such directory" in row.message and world.containers.launches["web"] == 1
        world.containers.of("web").pull_error = None
        await agent.until(lambda: world.containers.launches["web"] == 2)
        await agent.kill()

    play(scene())


def test_pulls_that_fail_have_a_backoff_of_their_own_and_are_no_crash(world: World) -> None:
    async def scene() -> None:
        world.containers.of("web").pull_error = MISSING
        world.files.texts["web.yaml"] = document("web", NEW)
        agent = await world.agent()
        await agent.until(lambda: world.containers.provided["web"] == 9, 1000.0)
        await agent.until(lambda: (world.records.rows["web"].next_try or 0) > clock() + 60.0)
        assert (world.records.rows["web"].next_try or 0) <= clock() + backoff.PULLS.max
        world.containers.of("web").pull_error = None
        await agent.until(lambda: world.status("web") == "Running", 200.0)
        assert (world.records.rows["web"].restarts, world.containers.launches["web"]) == (0, 1)
        await agent.kill()

    play(scene())


def test_a_pull_takes_no_slot_and_delays_no_ready(world: World) -> None:
    async def scene() -> None:
        world.containers.of("slow").pull_seconds = 100_000.0
        world.files.texts |= {"slow.yaml": document("slow", OLD), "web.yaml": document("web")}
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running" and agent.ready.is_set(), 30.0)
        assert (world.status("slow"), world.records.rows["slow"].message) == ("Pulling", "pulling it")
        del world.files.texts["slow.yaml"]
        await agent.until(lambda: world.status("slow") == "gone" and not world.containers.pulling, 30.0)
        await agent.kill()

    play(scene())


@pytest.mark.parametrize("how", ["put back", "suspended"])
def test_a_pull_is_given_up_once_nobody_wants_what_it_is_for(world: World, how: str) -> None:
    async def scene() -> None:
        agent = await world.agent()
        if how == "put back":
            world.files.texts["web.yaml"] = document("web", OLD)
            await agent.until(lambda: world.status("web") == "Running")
        world.containers.of("web").pull_seconds = 100_000.0
        world.files.texts["web.yaml"] = document("web", NEW)
        await agent.until(lambda: world.containers.pulling == {"web"}, 30.0)
        if how == "put back":
            world.files.texts["web.yaml"] = document("web", OLD)
        else:
            await agent.reconciler.suspend(["web"], Suspension("me", 1.0))
        expected = "Running" if how == "put back" else "Suspended"
        await agent.until(lambda: world.status("web") == expected and not world.containers.pulling, 30.0)
        assert "pulling" not in world.records.rows["web"].message
        assert world.containers.launches["web"] == (how == "put back")
        await agent.kill()

    play(scene())
