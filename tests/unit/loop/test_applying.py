"""`apply` and `destroy`: when they are over, and with what code."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.errors import LaunchFailed, Unsupported
from reconciler.loop.outcome import Outcome
from reconciler.loop.preview import preview
from reconciler.spec.sources.listing import Listing, ListingState
from tests.unit.loop.values import NOW, SOURCE, document, listing, record, recorded, spec, status
from tests.unit.loop.world import World, play

JOB = "command: [x]\nrestartPolicy: Never"


@pytest.fixture
def world() -> World:
    return World()


async def apply(world: World, seconds: float = 300.0) -> Outcome:
    reconciler = world.reconciler()
    await reconciler.start()
    try:
        return await reconciler.apply(seconds)
    finally:
        await reconciler.close()


def test_apply_returns_when_everything_runs(world: World) -> None:
    async def scene() -> None:
        world.files.texts |= {
            "web.yaml": document("web"),
            "pod.yaml": document("shop", "containers: [{name: web, command: [x]}]"),
        }
        assert (await apply(world)).code == 0
        assert world.containers.running() == {"web", "shop", "shop.web"}

    play(scene())


def test_a_second_apply_changes_nothing(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        await apply(world)
        saves, rows = world.records.saves, dict(world.records.rows)
        assert (await apply(world)).code == 0
        assert (world.records.saves, world.records.rows) == (saves, rows)
        assert world.containers.launches == {"web": 1}

    play(scene())


def test_apply_waits_for_what_was_removed_to_be_gone(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        world.containers.of("web").destroy_seconds = 3.0
        await apply(world)
        world.files.texts.clear()
        assert (await apply(world)).code == 0
        assert (world.containers.known, world.records.kept) == ({}, {})

    play(scene())


def test_apply_gives_one_when_only_what_cannot_be_helped_is_left(world: World) -> None:
    async def scene() -> None:
        world.files.texts |= {"web.yaml": document("web"), "bad.yaml": document("bad", "comand: [x]")}
        world.containers.of("odd").launch_error = Unsupported("no")
        world.files.texts["odd.yaml"] = document("odd")
        outcome = await apply(world)
        assert outcome.code == 1
        assert "bad: Invalid: bad.yaml:5:3" in outcome.message
        assert "odd: Blocked: no" in outcome.message
        assert asyncio.get_running_loop().time() < 10

    play(scene())


def test_apply_gives_one_for_a_failed_job(world: World) -> None:
    async def scene() -> None:
        world.files.texts["job.yaml"] = document("job", JOB)
        world.containers.of("job").launch_error = LaunchFailed("/bin/nope: no such file", 127)
        outcome = await apply(world)
        assert outcome.code == 1
        assert "/bin/nope" in outcome.message

    play(scene())


def test_apply_gives_one_for_a_bad_file_although_the_last_good_version_runs(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        await apply(world)
        world.files.texts["web.yaml"] = document("web", "comand: [x]")
        outcome = await apply(world)
        assert (outcome.code, world.containers.running()) == (1, {"web"})
        assert "web.yaml:5:3" in outcome.message

    play(scene())


def test_apply_gives_one_for_an_unknown_source(world: World) -> None:
    async def scene() -> None:
        world.files.answer = Listing(ListingState.UNKNOWN, "/specs: no such directory")
        outcome = await apply(world)
        assert (outcome.code, outcome.message) == (1, "/specs: no such directory")

    play(scene())


def test_apply_ends_at_its_timeout(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        world.containers.of("web").launch_error = LaunchFailed("no", 127)
        outcome = await apply(world, 20.0)
        assert outcome.code == 1
        assert "web: CrashLoop" in outcome.message
        assert asyncio.get_running_loop().time() < 27

    play(scene())


def test_apply_beside_a_running_loop_waits_for_its_passes(world: World) -> None:
    async def scene() -> None:
        agent = await world.agent()
        world.files.texts["web.yaml"] = document("web")
        assert (await agent.reconciler.apply()).code == 0
        assert world.containers.running() == {"web"}

    play(scene())


def test_destroy_takes_everything_or_what_is_named(world: World) -> None:
    async def scene() -> None:
        world.files.texts |= {"web.yaml": document("web"), "db.yaml": document("db")}
        await apply(world)
        reconciler = world.reconciler()
        await reconciler.start()
        assert (await reconciler.destroy(["web"])).code == 0
        assert (set(world.containers.known), set(world.records.kept)) == ({"db"}, {"db"})
        assert (await reconciler.destroy()).code == 0
        assert (world.containers.known, world.records.kept) == ({}, {})

    play(scene())


def test_destroy_says_what_is_not_gone(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        await apply(world)
        world.containers.of("web").destroy_seconds = 1000.0
        reconciler = world.reconciler()
        await reconciler.start()
        outcome = await reconciler.destroy(None, 10.0)
        assert outcome.code == 1
        assert outcome.message.startswith("not gone after 10 s:\nweb: Stopping")

    play(scene())


def test_a_preview_has_the_exit_code_of_plan() -> None:
    web = spec("web", "sleep", "infinity")
    good, bad = {"web.yaml": document("web")}, {"web.yaml": document("web"), "x.yaml": "a: ["}
    running = recorded(record(web)), {"web": status(web)}
    assert preview(listing(good), *running, SOURCE, NOW).code == 0
    assert preview(listing(good), recorded(), {}, SOURCE, NOW).code == 2
    assert preview(listing(bad), recorded(), {}, SOURCE, NOW).code == 1
    assert len(preview(listing(bad), recorded(), {}, SOURCE, NOW).plan.actions) == 1
