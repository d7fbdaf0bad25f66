"""Stopped and kept stopped, by spec or by command; and runs that are ended when they take too long."""

from __future__ import annotations

from pathlib import Path

from reconciler.loop import life
from reconciler.loop.plan import plan, render
from reconciler.loop.rows import Facts, rows
from reconciler.loop.suspending import Suspension, forgotten, suspended
from reconciler.loop.values import Desired, Life, Plan, Recorded
from reconciler.runtime.containerizer import ContainerStatus, Termination
from reconciler.states import ContainerState, Reason, Status
from tests.unit.loop.values import NOW, desired, exit_of, observed, record, recorded, spec, status

ME = Suspension("alice", NOW)
WEB, OFF = spec("web", "x"), spec("web", "x", suspend=True)
POD, NESTED = spec("pod"), spec("pod.web", "x")


def text(want: Desired, known: Recorded, *seen: ContainerStatus, **by_command: Suspension) -> str:
    return render(plan(want, known, observed(*seen), NOW, by_command=by_command))


def test_suspended_by_spec_it_is_stopped_then_recorded_then_left_alone() -> None:
    assert text(desired(OFF), recorded(record(WEB)), status(WEB)) == (
        "destroy/suspend  web  it is suspended by its spec (web.yaml:1)\n"
    )
    stopped = Life(starts=1, exit=exit_of(signal=15))
    assert text(desired(OFF), recorded(record(WEB, stopped))) == "live/record  web  suspend changed: false → true\n"
    assert text(desired(OFF), recorded(record(OFF, stopped))) == ""
    assert text(desired(WEB), recorded(record(OFF, stopped))) == "live/record  web  suspend changed: true → false\n"
    assert text(desired(WEB), recorded(record(WEB, stopped))).startswith("restart  web  not running: was killed")


def test_a_suspended_parent_ends_after_what_is_nested_in_it() -> None:
    found = text(desired(POD, NESTED), recorded(record(POD), record(NESTED)), status(POD), status(NESTED), pod=ME)
    why = "suspended by alice at 1970-01-12T13:46:40.000Z; `reconciler resume pod` lets it run again"
    assert found == (
        f"destroy/suspend  pod.web  it is nested in pod, which is {why}\n"
        f"destroy/suspend  pod      it is {why}  [after pod.web]\n"
    )


def test_what_changes_while_it_is_suspended_is_reported_and_begins_a_new_generation() -> None:
    changed = spec("web", "y")
    (action,) = plan(
        desired(changed), recorded(record(WEB, Life(starts=1))), observed(), NOW, by_command={"web": ME}
    ).actions
    assert (action.op, action.renew, action.cause) == ("record", True, "command changed: [x] → [y]")


def test_a_suspended_name_may_be_destroyed_and_stays_suspended() -> None:
    found = plan(desired(WEB), recorded(record(WEB)), observed(), NOW, by_command={"web": ME}, doomed={"web"})
    assert [action.op for action in found.actions] == ["destroy"]
    assert text(desired(WEB), recorded(), web=ME) == ""
    facts = Facts(desired(WEB), recorded(), observed(), Plan(), {}, {}, lambda name: Path("/root"), {"web": ME})
    assert rows(facts)["web"].status is Status.SUSPENDED


def test_a_damaged_mark_suspends_all_the_same() -> None:
    why = suspended(["web"], desired(WEB), recorded(), {"web": Suspension.of({"by": 7})})
    assert why == {"web": "suspended by command; `reconciler resume web` lets it run again"}
    assert Suspension.of(ME.details()) == ME


def test_a_suspension_is_forgotten_with_its_name_and_not_before() -> None:
    marks = {"web": ME}
    assert forgotten(marks, desired(), []) == {"web"}
    assert forgotten(marks, desired(complete=False), []) == frozenset()
    assert forgotten(marks, desired(), ["web"]) == forgotten(marks, desired(WEB), []) == frozenset()


def test_being_suspended_is_no_failure_and_not_the_end_of_a_job() -> None:
    job = spec("job", "x", restart_policy="Never")
    over = life.suspended(Life(starts=1, started_at=NOW - 5), job, exit_of(0), NOW)
    assert (over.failures, over.finished, over.next_try) == (0, False, None)


# -- maxCompletionTime -----------------------------------------------------------------------------------

LIMITED = spec("web", "x", max_completion_time=60.0, restart_policy="OnFailure")


def test_a_run_is_ended_at_its_deadline_whoever_started_it() -> None:
    early = Life(starts=1, started_at=NOW - 59)
    found = plan(desired(LIMITED), recorded(record(LIMITED, early)), observed(status(LIMITED)), NOW)
    assert (found.actions, found.wake_at) == ((), NOW + 1)
    late = Life(starts=1, started_at=NOW - 60)
    for state in (ContainerState.RUNNING, ContainerState.DESTROYING):  # an agent died while it was being ended
        (action,) = plan(
            desired(LIMITED), recorded(record(LIMITED, late)), observed(status(LIMITED, state)), NOW
        ).actions
        assert (action.op, action.cause) == ("expire", "it has run for longer than its maxCompletionTime")


def test_a_run_that_took_too_long_has_failed_however_it_ended() -> None:
    late, clean = Life(starts=1, started_at=NOW - 60), Termination(0, None, Reason.EXITED, NOW)
    over = life.expired(late, LIMITED, clean, NOW)
    assert over.exit is not None
    assert (over.failures, over.finished, over.exit.code, over.exit.reason) == (1, False, 0, Reason.DEADLINE_EXCEEDED)
    never = LIMITED.model_copy(update={"restart_policy": "Never"})
    assert life.expired(late, never, None, NOW).finished
