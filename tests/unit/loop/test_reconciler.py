"""The reconciler in a virtual world: what is true of the world in the end, not which calls were made."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.errors import LaunchFailed, Retryable, Unsupported
from reconciler.loop.reconciler import Settings
from reconciler.spec.sources.listing import Listing, ListingState
from reconciler.states import Reason
from tests.unit.loop.values import document, listing
from tests.unit.loop.world import World, play

POD = "containers:\n  - {name: web, command: [httpd]}\n  - {name: log, command: [tail]}"


@pytest.fixture
def world() -> World:
    return World()


def test_a_dropped_file_runs_and_a_deleted_one_is_gone(world: World) -> None:
    async def scene() -> None:
        agent = await world.agent()
        world.files.texts["web.yaml"] = document("web")
        await agent.until(lambda: world.status("web") == "Running")
        del world.files.texts["web.yaml"]
        await agent.until(lambda: world.status("web") == "gone")
        assert (world.containers.known, world.records.kept) == ({}, {})

    play(scene())


def test_a_pod_starts_from_the_top_and_ends_from_the_bottom(world: World) -> None:
    async def scene() -> None:
        agent = await world.agent()
        world.files.texts["pod.yaml"] = document("shop", POD)
        await agent.until(lambda: world.containers.running() == {"shop", "shop.web", "shop.log"})
        del world.files.texts["pod.yaml"]
        await agent.until(lambda: not world.containers.known and not world.records.kept)
        assert world.containers.faults == []

    play(scene())


def test_a_killed_container_comes_back(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.containers.end("web", signal=9)
        await agent.until(lambda: world.containers.launches["web"] == 2)
        assert world.records.kept["web"].life.failures == 1

    play(scene())


def test_what_a_containerizer_could_not_recover_is_unknown_and_not_ended(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        await agent.kill()
        history = world.records.kept["web"].life
        world.containers.unrecovered = "there is no keeper"
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Stalled")
        assert world.records.rows["web"].message == "there is no keeper"
        assert agent.reconciler.notes()["containerizer"] == "there is no keeper"
        world.containers.unrecovered = ""
        await agent.until(lambda: world.status("web") == "Running")
        assert world.records.kept["web"].life == history and world.containers.launches["web"] == 1

    play(scene())


def test_what_runs_is_not_ended_for_an_edit_that_this_host_refuses(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.containers.of("web").refusal = "no such thing here"
        world.files.texts["web.yaml"] = document("web", "hostname: other")
        await agent.until(lambda: "no such thing here" in world.records.rows["web"].message)
        assert world.status("web") == "Running" and world.containers.launches["web"] == 1

    play(scene())


def test_what_never_ran_keeps_its_row_while_its_file_is_written(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web", "suspend: true")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Suspended")
        world.files.answer = listing({}, busy=("web.yaml",))
        await agent.until(lambda: agent.reconciler.notes().get("web.yaml") == "is still being written")
        assert world.status("web") == "Suspended"
        world.files.answer = listing({})
        await agent.until(lambda: world.status("web") == "gone")

    play(scene())


def test_a_crash_loop_tries_later_each_time(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        waits = []
        for launches in range(1, 6):
            await agent.until(lambda wanted=launches: world.containers.launches["web"] == wanted)
            began = asyncio.get_running_loop().time()
            world.containers.end("web", 3)
            await agent.until(lambda wanted=launches: world.containers.launches["web"] == wanted + 1)
            waits.append(asyncio.get_running_loop().time() - began)
        assert waits == sorted(waits)
        assert waits[-1] > 8 * waits[0]

    play(scene())


def test_removed_and_put_back_while_stopping_is_one_new_instance(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        world.containers.of("web").destroy_seconds = 2.0
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        text = world.files.texts.pop("web.yaml")
        await agent.until(lambda: world.status("web") == "Stopping")
        world.files.texts["web.yaml"] = text
        await agent.until(lambda: world.containers.launches["web"] == 2)
        await agent.until(lambda: world.status("web") == "Running")
        assert (world.containers.launches["web"], world.containers.faults) == (2, [])

    play(scene())


def test_a_newer_spec_supersedes_a_launch_under_way(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web", "command: [old]")
        world.containers.of("web").launch_seconds = 60.0
        agent = await world.agent()
        await agent.until(lambda: "web" in world.containers.known)
        world.containers.of("web").launch_seconds = 0.0
        world.files.texts["web.yaml"] = document("web", "command: [new]")
        await agent.until(lambda: world.status("web") == "Running", seconds=10)
        assert world.containers.configs["web"].spec.command == ("new",)
        assert (world.containers.launches["web"], world.containers.faults) == (1, [])

    play(scene())


def test_stuck_containers_block_no_other(world: World) -> None:
    async def scene() -> None:
        for number in range(20):
            world.files.texts[f"stuck{number}.yaml"] = document(f"stuck{number}")
            world.containers.of(f"stuck{number}").launch_seconds = 10_000.0
        agent = await world.agent()
        await agent.until(lambda: len(world.containers.known) >= 16)
        world.files.texts["web.yaml"] = document("web")
        await agent.until(lambda: world.status("web") == "Running", seconds=10)
        await asyncio.wait_for(agent.ready.wait(), 10)

    play(scene())


def test_a_container_that_cannot_be_observed_blocks_no_other(world: World) -> None:
    async def scene() -> None:
        world.files.texts |= {"a.yaml": document("a"), "b.yaml": document("b")}
        agent = await world.agent()
        await agent.until(lambda: world.containers.running() == {"a", "b"})
        world.containers.of("a").silent = True
        world.files.texts |= {"b.yaml": document("b", "command: [new]")}
        await agent.until(lambda: world.containers.launches["b"] == 2, seconds=10)
        assert (world.status("a"), world.containers.running()) == ("Stalled", {"a", "b"})

    play(scene())


def test_an_agent_killed_between_record_and_launch_launches_once(world: World) -> None:
    async def scene() -> None:
        world.files.texts["job.yaml"] = document("job", "command: [x]\nrestartPolicy: Never")
        world.containers.of("job").launch_seconds = 5.0
        agent = await world.agent()
        await agent.until(lambda: "job" in world.records.kept)
        await agent.kill()
        world.containers.of("job").launch_seconds = 0.0
        agent = await world.agent()
        await agent.until(lambda: world.status("job") == "Running")
        assert (world.containers.launches["job"], world.containers.faults) == (1, [])

    play(scene())


def test_an_agent_killed_after_the_launch_restarts_nothing_and_loses_no_exit(world: World) -> None:
    async def scene() -> None:
        world.files.texts |= {
            "web.yaml": document("web"),
            "job.yaml": document("job", "command: [x]\nrestartPolicy: Never"),
        }
        agent = await world.agent()
        await agent.until(lambda: world.containers.running() == {"web", "job"})
        await agent.kill()
        world.containers.end("job", 3)
        agent = await world.agent()
        await agent.until(lambda: world.status("job") == "Failed")
        assert world.containers.launches == {"web": 1, "job": 1}
        assert world.records.rows["job"].exit.code == 3

    play(scene())


def test_a_launch_that_fails_is_a_run(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        world.containers.of("web").launch_error = LaunchFailed("/bin/nope: no such file", 127)
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "CrashLoop")
        row = world.records.rows["web"]
        assert (row.exit.code, row.exit.reason) == (127, Reason.LAUNCH_FAILED)
        assert "/bin/nope" in row.message

    play(scene())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unsupported("limits need cgroups"), Reason.NOT_ON_THIS_LAUNCHER),
        (None, Reason.NO_CONTAINERIZER),
    ],
)
def test_what_no_one_can_run_is_blocked_until_its_spec_changes(
    world: World, error: Exception | None, reason: Reason
) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        behaviour = world.containers.of("web")
        behaviour.launch_error, behaviour.supported = error, error is not None
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Blocked")
        assert world.records.rows["web"].reason is reason
        behaviour.launch_error, behaviour.supported = None, True
        await asyncio.sleep(60)
        assert world.status("web") == "Blocked"
        world.files.texts["web.yaml"] = document("web", "command: [other]")
        await agent.until(lambda: world.status("web") == "Running")

    play(scene())


def test_a_limit_the_kernel_refuses_is_tried_again_and_restarts_nothing(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.containers.of("web").update_error = Retryable("64 MiB asked for, 80 MiB in use")
        limited = "command: [sleep, infinity]\nresources: {limits: {memory: 64Mi}}"
        world.files.texts["web.yaml"] = document("web", limited)
        await agent.until(lambda: "80 MiB in use" in world.records.rows["web"].message)
        assert world.status("web") == "Running"
        world.containers.of("web").update_error = None
        await agent.until(lambda: bool(world.containers.updates))
        await agent.until(lambda: world.records.rows["web"].message == "")
        assert world.containers.launches["web"] == 1

    play(scene())


def test_a_removal_that_is_stuck_is_tried_again(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.containers.of("web").destroy_error = Retryable("pid 7 is in state D", Reason.DESTROY_FAILED)
        world.files.texts.clear()
        await agent.until(lambda: world.status("web") == "Stalled")
        assert "pid 7" in world.records.rows["web"].message
        world.containers.of("web").destroy_error = None
        await agent.until(lambda: world.status("web") == "gone")

    play(scene())


def test_a_bug_in_one_name_is_its_own_trouble(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        world.files.texts |= {"a.yaml": document("a"), "b.yaml": document("b")}
        world.containers.of("a").launch_error = ZeroDivisionError("division by zero")
        agent = await world.agent()
        await agent.until(lambda: "a" in world.records.rows and "ZeroDivisionError" in world.records.rows["a"].message)
        await agent.until(lambda: world.status("b") == "Running")
        world.containers.of("a").launch_error = None
        await agent.until(lambda: world.status("a") == "Running")

    play(scene())
    assert "Traceback" in caplog.text


def test_a_full_disk_stops_no_container_and_ends_no_loop(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.records.full = True
        world.files.texts["new.yaml"] = document("new")
        await agent.until(lambda: "No space left" in getattr(world.records.rows.get("new"), "message", ""))
        assert world.containers.running() == {"web"}
        world.records.full = False
        await agent.until(lambda: world.status("new") == "Running")

    play(scene())


def test_a_vanished_directory_stops_nothing(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.files.answer = Listing(ListingState.UNKNOWN, "/specs: no such directory")
        world.containers.end("web", signal=9)
        await agent.until(lambda: world.containers.launches["web"] == 2)
        await agent.until(lambda: world.status("web") == "Running")
        assert "no such directory" in world.records.rows["web"].message
        assert world.records.notes["source"] == "/specs: no such directory"

    play(scene())


def test_a_mass_deletion_waits_for_approval(world: World) -> None:
    async def scene() -> None:
        names = {f"web{number}" for number in range(6)}
        world.files.texts |= {f"{name}.yaml": document(name) for name in names}
        agent = await world.agent()
        await agent.until(lambda: world.containers.running() == names)
        world.files.texts.clear()
        await agent.until(lambda: world.status("web0") == "Held")
        await asyncio.sleep(60)
        assert world.containers.running() == names
        assert agent.reconciler.approve() == names
        await agent.until(lambda: not world.containers.known)

    play(scene())


def test_a_job_pod_completes_as_a_whole(world: World) -> None:
    async def scene() -> None:
        job = "containers:\n  - {name: job, command: [x], restartPolicy: OnFailure}"
        world.files.texts["batch.yaml"] = document("batch", job)
        agent = await world.agent()
        await agent.until(lambda: world.status("batch.job") == "Running")
        world.containers.end("batch.job", 0)
        await agent.until(lambda: world.status("batch") == "Completed")
        assert (world.status("batch.job"), world.containers.running()) == ("Completed", set())
        await asyncio.sleep(60)
        assert world.containers.launches == {"batch": 1, "batch.job": 1}

    play(scene())


def test_a_crashed_parent_brings_its_tree_back(world: World) -> None:
    async def scene() -> None:
        world.files.texts["pod.yaml"] = document("shop", POD)
        agent = await world.agent()
        await agent.until(lambda: len(world.containers.running()) == 3)
        world.containers.end("shop", signal=9)
        await agent.until(lambda: world.containers.launches["shop.web"] == 2)
        await agent.until(lambda: len(world.containers.running()) == 3)
        assert world.records.kept["shop.web"].life.failures == 0
        assert world.containers.faults == []

    play(scene())


def test_ready_does_not_wait_for_backoff_or_bad_files(world: World) -> None:
    async def scene() -> None:
        world.files.texts |= {"web.yaml": document("web"), "bad.yaml": "a: [", "pod.yaml": document("shop", POD)}
        world.containers.of("web").launch_error = LaunchFailed("no", 127)
        agent = await world.agent()
        await asyncio.wait_for(agent.ready.wait(), 1.0)
        assert {"shop", "shop.web", "shop.log"} <= world.containers.running()

    play(scene())


def test_hints_from_other_threads_wake_the_loop(world: World) -> None:
    async def scene() -> None:
        agent = await world.agent()
        await asyncio.sleep(0.5)
        world.files.texts["web.yaml"] = document("web")
        began = asyncio.get_running_loop().time()
        agent.reconciler.wake()
        await agent.until(lambda: world.status("web") == "Running")
        assert asyncio.get_running_loop().time() - began < 0.1

    play(scene())


def test_stopping_the_loop_leaves_the_containers(world: World) -> None:
    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        agent.stop.set()
        await asyncio.sleep(1)
        await agent.reconciler.close()
        assert world.containers.running() == {"web"}

    play(scene())


def test_a_hundred_unchanged_names_cost_a_few_milliseconds(world: World) -> None:
    async def scene() -> None:
        world.settings = Settings()
        world.files.texts |= {f"web{number}.yaml": document(f"web{number}") for number in range(100)}
        agent = await world.agent()
        await agent.until(lambda: len(world.containers.running()) == 100)
        saves = world.records.saves
        await asyncio.sleep(60)
        assert world.records.saves == saves

    play(scene())
