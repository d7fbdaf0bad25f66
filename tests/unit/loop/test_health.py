"""What health checks make of a run: counted purely, and carried out by the loop in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.errors import Retryable
from reconciler.loop import life
from reconciler.loop.health import Watch, due, heard, judge, unheard, watched
from reconciler.loop.values import Life
from reconciler.runtime.containerizer import Finding, Termination
from reconciler.spec.policies import HealthCheck
from reconciler.states import EventType, Reason
from tests.unit.loop.values import NOW, document, ended, observed, record, recorded, spec
from tests.unit.loop.world import World, play

GOOD, BAD = Finding(True, "200"), Finding(False, "500")


def check(role: str = "liveness", port: int = 1, **fields: Any) -> HealthCheck:
    return HealthCheck.model_validate({"tcp": {"port": port}, "role": role, **fields})


def watch(role: str = "liveness", *findings: Finding, at: float = NOW + 60, **fields: Any) -> Watch:
    """After these findings, all of them `at` that time."""
    one = Watch(check(role, **fields), NOW)
    for finding in findings:
        one = heard(one, finding, at)
    return one


@pytest.mark.parametrize(
    ("findings", "at", "failures"),
    [
        ([BAD, BAD], NOW + 60, 2),
        ([BAD, GOOD, BAD], NOW + 60, 1),
        ([BAD, BAD], NOW + 9, 0),  # within the grace
        ([GOOD, BAD], NOW + 9, 1),  # the grace is over with the first success
        ([BAD], NOW + 10, 1),
    ],
)
def test_failures_in_a_row_count_after_the_grace(findings: list[Finding], at: float, failures: int) -> None:
    assert watch("liveness", *findings, at=at).failures == failures


def test_a_check_that_could_not_be_made_says_nothing() -> None:
    before = watch("liveness", BAD, BAD)
    after = unheard(before, "the keeper has gone", NOW + 70)
    assert (after.failures, after.last, judge([after]).failed) == (2, BAD, "")


def test_liveness_that_fails_ends_the_run_and_says_why() -> None:
    health = judge([watch("liveness", BAD, BAD, BAD, name="alive")])
    assert health.failed == health.failing == "liveness check alive: tcp :1 -> 500, 3 times in a row"
    assert not health.ready


def test_readiness_withholds_ready_and_ends_nothing() -> None:
    assert not judge([watch("readiness")]).ready
    assert "readiness check tcp :1" in judge([watch("readiness")]).waiting
    assert judge([watch("readiness", GOOD)]).ready
    assert judge([watch("readiness", GOOD, BAD, BAD)]).ready
    bad = judge([watch("readiness", GOOD, BAD, BAD, BAD)])
    assert (bad.ready, bad.failed, bool(bad.failing)) == (False, "", True)
    assert judge([watch("readiness", GOOD, BAD, BAD, BAD, GOOD)]).ready
    assert judge([watch("liveness")]).ready


def test_startup_holds_the_others_back_and_is_over_with_its_first_success() -> None:
    waiting, others = watch("startup"), [watch("liveness"), watch("readiness", GOOD)]
    assert due(waiting, [waiting, *others]) and not any(due(each, [waiting, *others]) for each in others)
    assert not judge([waiting, *others]).ready
    done = watch("startup", GOOD)
    assert not due(done, [done, *others]) and all(due(each, [done, *others]) for each in others)
    assert judge([done, *others]).ready
    assert judge([watch("startup", BAD, BAD, BAD)]).failed


def test_a_changed_check_begins_anew_and_the_others_go_on() -> None:
    kept, changed = watch("liveness", BAD, BAD), watch("liveness", BAD, BAD, port=2)
    after = watched([kept.check, check(port=3)], [kept, changed], NOW + 90)
    assert [each.failures for each in after] == [2, 0]
    assert after[1].since == NOW + 90


def test_what_an_earlier_agent_saw_is_believed_until_it_is_seen_otherwise() -> None:
    (believed,) = watched([check("readiness")], [], NOW, believed=True)
    assert judge([believed]).ready and not judge([believed]).settled
    assert judge([heard(believed, BAD, NOW + 1)]).ready  # its grace began anew
    bad = believed
    for _ in range(3):
        bad = heard(bad, BAD, NOW + 60)
    assert not judge([bad]).ready and judge([bad]).settled


# -- carried out ---------------------------------------------------------------------------------------

QUICK = "delay: 0s, interval: 1s"


def checked(name: str, *checks: str, more: str = "") -> str:
    lines = "\n".join(f"  - {{{each}, {QUICK}}}" for each in checks)
    return document(name, f"command: [x]\nhealthChecks:\n{lines}\n{more}")


def test_a_container_that_fails_its_liveness_is_started_again_as_after_a_failure() -> None:
    async def scene() -> None:
        world = World()
        world.files.texts["web.yaml"] = checked("web", "tcp: {port: 1}", more="restartPolicy: OnFailure")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        world.containers.of("web").findings["tcp :1"] = False
        await agent.until(lambda: world.containers.launches["web"] == 2)
        world.containers.of("web").findings["tcp :1"] = True
        life = world.records.kept["web"].life
        assert life.exit is not None and (life.failures, life.exit.reason) == (1, Reason.UNHEALTHY)
        assert "liveness check tcp :1 -> refused, 3 times in a row" in life.exit.message
        await agent.until(lambda: "was ended as unhealthy" in world.records.rows["web"].message)
        assert world.containers.faults == []

    play(scene())


def test_readiness_flips_and_is_told() -> None:
    async def scene() -> None:
        world = World()
        world.files.texts["web.yaml"] = checked("web", "tcp: {port: 1}, role: readiness")
        world.containers.of("web").findings["tcp :1"] = Retryable("nobody could look", Reason.STATE_UNKNOWN)
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        assert not world.records.rows["web"].ready and "not ready" in world.records.rows["web"].message
        world.containers.of("web").findings["tcp :1"] = True
        await agent.until(lambda: world.records.rows["web"].ready)
        world.containers.of("web").findings["tcp :1"] = False
        await agent.until(lambda: world.status("web") == "Unhealthy")
        assert not world.records.rows["web"].ready and world.containers.launches["web"] == 1
        world.containers.of("web").findings["tcp :1"] = True
        await agent.until(lambda: world.status("web") == "Running" and world.records.rows["web"].ready)

    play(scene())


def test_checks_wait_for_startup_and_end_with_the_run() -> None:
    async def scene() -> None:
        world = World()
        world.files.texts["web.yaml"] = checked(
            "web", "tcp: {port: 1}, role: startup, gracePeriod: 1h", "tcp: {port: 2}"
        )
        world.containers.of("web").findings["tcp :1"] = False
        agent = await world.agent()
        await agent.until(lambda: len(world.containers.checks) > 5)
        assert {what for _, what, _ in world.containers.checks} == {"tcp :1"}
        world.containers.of("web").findings["tcp :1"] = True
        await agent.until(lambda: world.containers.checks[-1][1] == "tcp :2")
        del world.files.texts["web.yaml"]
        await agent.until(lambda: not world.containers.known)
        seen = len(world.containers.checks)
        await agent.until(lambda: True)
        assert len(world.containers.checks) == seen

    play(scene())


def test_a_check_that_hangs_holds_up_no_other() -> None:
    async def scene() -> None:
        world = World()
        for number in range(60):
            world.files.texts[f"a{number}.yaml"] = checked(f"a{number}", "tcp: {port: 1}")
            world.containers.of(f"a{number}").check_seconds = 1e6
        world.files.texts["web.yaml"] = checked("web", "tcp: {port: 1}")
        agent = await world.agent()
        await agent.until(lambda: sum(name == "web" for name, _, _ in world.containers.checks) > 3)

    play(scene())


def test_another_agent_restarts_nothing_and_believes_what_was_ready() -> None:
    async def scene() -> None:
        world = World()
        world.files.texts["web.yaml"] = checked("web", "tcp: {port: 1}, role: readiness")
        agent = await world.agent()
        await agent.until(lambda: "web" in world.records.rows and world.records.rows["web"].ready)
        await agent.kill()
        world.records.told.clear()
        world.containers.checks.clear()
        agent = await world.agent()
        await agent.until(lambda: len(world.containers.checks) > 1)
        assert world.containers.launches["web"] == 1 and world.records.rows["web"].ready
        assert all(event.type is not EventType.NOT_READY for event in world.records.told)

    play(scene())


def test_apply_returns_when_it_is_ready_and_not_before() -> None:
    async def scene() -> None:
        world = World()
        world.files.texts["web.yaml"] = checked("web", "tcp: {port: 1}, role: readiness")
        world.containers.of("web").findings["tcp :1"] = False
        first = world.reconciler()
        await first.start()
        late = await first.apply(5)
        assert late.code == 1 and "tcp :1 has yet to succeed (refused)" in late.message
        world.containers.of("web").findings["tcp :1"] = True
        assert (await first.apply(5)).code == 0
        await first.close()

    play(scene())


def test_a_run_that_was_condemned_is_not_counted_again_when_its_end_is_seen() -> None:
    """The agent died between counting it and ending it; on the way out it even exited with 0."""
    web = spec("web", "x", restart_policy="OnFailure")
    before = life.condemned(Life(starts=1, started_at=NOW - 60), web, None, "liveness check", NOW)
    seen = ended(web, Termination(0, None, Reason.EXITED, NOW + 2))
    after = life.settle(recorded(record(web, before)), observed(seen), NOW + 3).records["web"].life
    assert after == before and after.failures == 1 and not after.finished
