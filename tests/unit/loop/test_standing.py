"""What stands although agents come and go: suspensions, holds, finished jobs; and what is given up for a while."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.loop.settings import Settings
from reconciler.loop.suspending import Suspension
from reconciler.spec.sources.listing import Listing, ListingState
from tests.unit.loop.values import document
from tests.unit.loop.world import Agent, World, play

JOB = "command: [once]\nrestartPolicy: OnFailure"
POD = "initContainers: [{name: setup, command: [setup]}]\ncontainers: [{name: web, command: [web]}]"

UNREADABLE = Listing(ListingState.UNKNOWN, "/specs: no such directory")


@pytest.fixture
def world() -> World:
    return World()


def test_waiting_for_an_end_takes_no_passes_but_those_that_have_something_to_see(world: World) -> None:
    """The end takes its time; whoever asked for it beside the loop waits as the loop does."""

    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.containers.of("web").destroy_seconds = 30
        before = passes(agent)
        assert (await agent.reconciler.suspend(["web"], Suspension("me", 1.0), 60)).code == 0
        assert world.containers.running() == set()
        assert passes(agent) - before <= 30 / agent.reconciler.settings.resync + 3

    def passes(agent: Agent) -> int:
        return int(str(agent.reconciler.figures()["passes"]))

    play(scene())


def test_what_is_suspended_by_command_stays_so_for_the_next_agent(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        assert (await agent.reconciler.suspend(["web"], Suspension("me", 1.0))).code == 0
        assert world.containers.running() == set()
        await agent.kill()
        agent = await world.agent()
        await asyncio.sleep(60)
        assert (world.status("web"), world.containers.launches["web"]) == ("Suspended", 1)
        assert (await agent.reconciler.resume(["web"])).code == 0
        await agent.until(lambda: world.status("web") == "Running")

    play(scene())


def test_a_suspension_goes_with_its_name(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        await agent.reconciler.suspend(["web"], Suspension("me", 1.0))
        del world.files.texts["web.yaml"]
        await agent.until(lambda: world.status("web") == "gone" and not world.records.marked["suspended"])
        world.files.texts["web.yaml"] = document("web")
        await agent.until(lambda: world.status("web") == "Running")

    play(scene())


def test_the_rest_of_a_partly_approved_mass_deletion_is_held_by_the_next_agent(world: World) -> None:
    async def scene() -> None:
        names = {f"web{number}" for number in range(6)}
        world.files.texts |= {f"{name}.yaml": document(name) for name in names}
        agent = await world.agent()
        await agent.until(lambda: world.containers.running() == names)
        world.files.texts.clear()
        await agent.until(lambda: world.status("web0") == "Held")
        agent.reconciler.approve(["web0", "web1", "web2"])
        await agent.until(lambda: len(world.containers.running()) == 3)
        await agent.kill()
        agent = await world.agent()
        await asyncio.sleep(60)
        assert world.containers.running() == {"web3", "web4", "web5"}
        world.containers.end("web3", signal=9)
        await agent.until(lambda: world.containers.launches["web3"] == 2)
        agent.reconciler.approve()
        await agent.until(lambda: not world.containers.known and not world.records.marked["held"])

    play(scene())


def test_a_job_runs_once_per_generation_whatever_dies(world: World) -> None:
    async def scene() -> None:
        world.files.texts["job.yaml"] = document("job", JOB)
        agent = await world.agent()
        await agent.until(lambda: world.status("job") == "Running")
        world.containers.end("job")
        await agent.until(lambda: world.status("job") == "Completed")
        for _ in range(2):
            await agent.kill()
            world.containers.known.clear()  # a reboot
            agent = await world.agent()
            await asyncio.sleep(60)
            assert (world.status("job"), world.containers.launches["job"]) == ("Completed", 1)

    play(scene())


def test_after_a_reboot_the_pod_comes_back_in_its_order_without_a_source(world: World) -> None:
    async def scene() -> None:
        world.files.texts["pod.yaml"] = document("pod", POD)
        agent = await world.agent()
        await agent.until(lambda: "pod.setup" in world.containers.running())
        await asyncio.sleep(5)
        assert "pod.web" not in world.containers.known
        world.containers.end("pod.setup")
        await agent.until(lambda: "pod.web" in world.containers.running())
        await agent.kill()
        world.containers.known.clear()
        world.files.texts.clear()
        world.files.answer = UNREADABLE
        agent = await world.agent()
        await agent.until(lambda: "pod.setup" in world.containers.running())
        assert "pod.web" not in world.containers.known
        world.containers.end("pod.setup")
        await agent.until(lambda: "pod.web" in world.containers.running())
        assert world.containers.launches == {"pod": 2, "pod.setup": 2, "pod.web": 2}

    play(scene())


def test_what_is_for_another_node_is_ignored_and_what_ran_is_taken_away(world: World) -> None:
    async def scene() -> None:
        world.settings = Settings(node_labels={"disk": "ssd"})
        world.files.texts["web.yaml"] = document("web", "command: [x]\nnodeSelector: {disk: ssd}")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.files.texts["web.yaml"] = document("web", "command: [x]\nnodeSelector: {disk: tape}")
        await agent.until(lambda: world.status("web") == "Ignored" and not world.containers.known)
        assert (
            world.records.rows["web"].message
            == "its nodeSelector is for other nodes: disk must be tape, this node's is ssd"
        )
        assert (await agent.reconciler.apply(10)).code == 0

    play(scene())


def test_a_restart_that_changes_nothing_is_named_and_tried_ever_more_rarely(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        world.containers.of("web").runs_as = "1:something-else"
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Stalled")
        await asyncio.sleep(300)
        row = world.records.rows["web"]
        assert (row.reason, row.next_try is not None) == ("NoEffect", True)
        assert "restart was done" in row.message and "it runs an older version" in row.message
        assert world.containers.launches["web"] < 20
        world.containers.of("web").runs_as = None
        world.files.texts["web.yaml"] = document("web", "command: [other]")
        await agent.until(lambda: world.status("web") == "Running", 5)

    play(scene())


def test_a_limit_that_somebody_else_keeps_changing_is_not_fought_over_for_ever(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web", "command: [x]\nresources: {limits: {pids: 50}}")
        world.containers.of("web").usage = {"pids_limit": 60}
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Stalled", 120)
        row = world.records.rows["web"]
        assert "update was done 3 times and changed nothing (changed by somebody else: pids" in row.message
        assert (row.reason, world.containers.launches["web"]) == ("NoEffect", 1)
        await asyncio.sleep(600)
        assert world.status("web") == "Stalled" and len(world.containers.updates) < 30
        world.containers.of("web").usage = {"pids_limit": 50}
        await agent.until(lambda: world.status("web") == "Running", 60)
        world.containers.of("web").usage = {"pids_limit": 60}
        before = len(world.containers.updates)
        await agent.until(lambda: len(world.containers.updates) > before, 60)
        world.containers.of("web").usage = {"pids_limit": 50}
        await asyncio.sleep(60)
        assert (world.status("web"), len(world.containers.updates)) == ("Running", before + 1)

    play(scene())
