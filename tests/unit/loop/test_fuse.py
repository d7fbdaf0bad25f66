"""How often in an hour a name may be started again, beyond what its backoff says."""

from __future__ import annotations

from reconciler.loop import fuse, life
from reconciler.loop.plan import plan
from reconciler.loop.values import Life
from reconciler.runtime.containerizer import Termination
from reconciler.states import Reason, Status
from tests.unit.loop.values import NOW, desired, document, observed, record, recorded, spec
from tests.unit.loop.world import World, play

WEB = spec("web", "x", backoff={"initial": 1, "max": 1})
QUICK = document("web", "command: [x]\nbackoff: {initial: 1s, max: 1s}")


def failed(times: int, now: float = NOW, every: float = 2.0) -> Life:
    """So often, the last time just now."""
    found = Life()
    for number in reversed(range(times)):
        at = now - number * every
        found = life.ended(life.started(found, at - 0.1), WEB, Termination(1, None, Reason.EXITED, at), at)
    return found


def test_the_bound_is_on_the_failures_of_the_last_hour() -> None:
    assert fuse.next_try(failed(9), 10) == (failed(9).next_try, False)
    assert fuse.next_try(failed(10), 10) == (NOW - 18 + fuse.HOUR, True)
    assert fuse.next_try(failed(20), 10) == (NOW - 18 + fuse.HOUR, True)
    assert fuse.next_try(failed(20), 0) == (failed(20).next_try, False)
    assert fuse.next_try(failed(20, every=400.0), 10)[1] is False
    assert len(failed(20, every=400.0).failed_at) == 9


def test_a_changed_spec_starts_from_none() -> None:
    assert life.revised(failed(50), WEB).failed_at == ()
    assert life.renewed(failed(50).exit).failed_at == ()


def test_nothing_is_planned_before_the_fuse_lets_it() -> None:
    before = recorded(record(WEB, failed(10)))
    waiting = plan(desired(WEB), before, observed(), NOW + 100, restarts_per_hour=10)
    assert waiting.actions == () and waiting.wake_at == NOW - 18 + fuse.HOUR
    assert plan(desired(WEB), before, observed(), NOW - 18 + fuse.HOUR, restarts_per_hour=10).actions
    assert plan(desired(WEB), before, observed(), NOW + 100).actions


def test_it_is_stalled_with_the_time_of_the_next_try_and_another_agent_keeps_to_it() -> None:
    async def scene() -> None:
        world = World()
        world.files.texts["web.yaml"] = QUICK
        agent = await world.agent()
        for number in range(1, fuse.DEFAULT + 1):
            await agent.until(lambda number=number: world.containers.launches["web"] == number)  # type: ignore[misc]
            world.containers.end("web", 1)
        await agent.until(lambda: world.status("web") == "Stalled")
        row = world.records.rows["web"]
        assert (row.status, row.reason) == (Status.STALLED, Reason.RESTART_LIMIT)
        assert row.next_try is not None and "--max-restarts-per-hour" in row.message
        await agent.kill()
        agent = await world.agent()
        await agent.until(lambda: world.containers.launches["web"] > fuse.DEFAULT, seconds=4000)
        assert world.records.kept["web"].life.started_at is not None
        assert world.records.kept["web"].life.started_at >= row.next_try

    play(scene())
