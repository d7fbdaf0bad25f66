"""What a start, an end or a changed spec does to the history of a name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.loop import backoff, life
from reconciler.loop.values import Life, Recorded
from reconciler.runtime.containerizer import Termination
from reconciler.spec.model import Backoff
from reconciler.states import ContainerState, Reason
from tests.unit.loop.values import NOW, ended, exit_of, observed, record, recorded, spec, status

RUNNING = Life(starts=1, started_at=NOW - 60)


def settled(before: Recorded, *seen: object, **unknown: str) -> Life:
    after = life.settle(before, observed(*seen, **unknown), NOW)  # type: ignore[arg-type]
    return after.records[min(after.records, key=len) if len(after.records) == 1 else max(after.records, key=len)].life


@pytest.mark.parametrize(
    ("policy", "termination", "finished"),
    [
        ("Always", exit_of(0), False),
        ("Always", exit_of(1), False),
        ("OnFailure", exit_of(0), True),
        ("OnFailure", exit_of(1), False),
        ("OnFailure", exit_of(signal=9), False),
        ("Never", exit_of(0), True),
        ("Never", exit_of(1), True),
    ],
)
def test_the_restart_policy_decides_whether_it_is_over(policy: str, termination: Termination, finished: bool) -> None:
    after = life.ended(RUNNING, spec("web", "x", restart_policy=policy), termination, NOW)
    assert after.finished is finished
    assert (after.next_try is None) is finished
    assert after.exit == termination


def test_each_failure_waits_longer_up_to_the_cap() -> None:
    web, now, waits = spec("web", "x", backoff=Backoff(initial=1, factor=2, max=10)), Life(), []
    for _ in range(6):
        now = life.ended(replace(now, started_at=NOW - 1), web, exit_of(1, ago=0), NOW)
        waits.append((now.next_try or 0) - NOW)
    assert waits == sorted(waits)
    assert 1 <= waits[0] < 1.2
    assert waits[-1] == 10


def test_a_stable_run_forgets_earlier_failures() -> None:
    stable = Life(starts=9, failures=8, started_at=NOW - 600)
    assert life.ended(stable, spec("web", "x"), exit_of(1, ago=0), NOW).failures == 1


def test_a_clean_exit_is_no_failure() -> None:
    after = life.ended(replace(RUNNING, failures=3), spec("web", "x"), exit_of(0), NOW)
    assert after.failures == 0


def test_retries_are_used_up() -> None:
    web = spec("web", "x", backoff=Backoff(max_retries=2))
    assert not life.ended(replace(RUNNING, failures=1), web, exit_of(1, ago=0), NOW).finished
    assert life.ended(replace(RUNNING, failures=2), web, exit_of(1, ago=0), NOW).finished


def test_an_end_with_the_parent_is_no_failure_and_does_not_wait() -> None:
    exit = Termination(None, 9, Reason.PARENT_ENDED, NOW)
    after = life.ended(RUNNING, spec("shop.web", "x", restart_policy="Never"), exit, NOW)
    assert (after.failures, after.finished, after.next_try) == (0, False, None)


def test_a_launch_that_failed_counts_as_a_run() -> None:
    failed = Termination(127, None, Reason.LAUNCH_FAILED, NOW, "/bin/nope: no such file")
    after = life.launch_failed(Life(), spec("web", "x"), failed, NOW)
    assert (after.starts, after.failures, after.started_at) == (1, 1, None)


def test_a_revised_spec_starts_at_once_what_waited() -> None:
    waiting = Life(starts=4, failures=4, exit=exit_of(1), next_try=NOW + 60)
    after = life.revised(waiting, spec("web", "x"))
    assert (after.failures, after.next_try, after.finished) == (0, None, False)


def test_a_finished_job_told_to_restart_always_is_not_finished() -> None:
    done = Life(starts=1, exit=exit_of(0), finished=True)
    assert not life.revised(done, spec("web", "x", restart_policy="Always")).finished
    assert life.revised(done, spec("web", "x", restart_policy="OnFailure")).finished


def test_an_end_is_accounted_for_once() -> None:
    web = spec("web", "x")
    once = life.settle(recorded(record(web)), observed(ended(web, exit_of(1))), NOW)
    twice = life.settle(once, observed(ended(web, exit_of(1))), NOW + 1)
    assert once.records["web"].life.failures == 1
    assert twice.records["web"] is once.records["web"]


def test_an_end_that_is_still_cleaned_up_after_is_an_end() -> None:
    web = spec("web", "x")
    seen = status(web, ContainerState.DESTROYING, termination=exit_of(1))
    assert settled(recorded(record(web)), seen).exit == exit_of(1)


def test_a_start_that_was_not_recorded_is_seen() -> None:
    web = spec("web", "x")
    after = settled(recorded(record(web, Life())), status(web))
    assert (after.starts, after.started_at) == (1, NOW - 3600)


def test_a_run_that_came_and_went_unseen_counts() -> None:
    web = spec("web", "x", restart_policy="Never")
    after = settled(recorded(record(web, Life())), ended(web, exit_of(3)))
    assert (after.starts, after.finished) == (1, True)


def test_a_container_that_is_gone_has_lost_its_status() -> None:
    after = settled(recorded(record(spec("web", "x"))))
    assert after.exit is not None and after.exit.reason is Reason.EXIT_STATUS_LOST
    assert after.failures == 1


def test_an_unknown_container_keeps_its_history() -> None:
    before = record(spec("web", "x"))
    assert settled(recorded(before), web="no answer") == before.life


def test_a_nested_container_gone_with_its_parent_has_not_failed() -> None:
    shop, web = spec("shop"), spec("shop.web", "x")
    after = settled(recorded(record(shop), record(web)), ended(shop, exit_of(signal=9)))
    assert after.exit is not None and after.exit.reason is Reason.PARENT_ENDED
    assert after.failures == 0


def test_a_nested_container_killed_under_a_running_parent_has_failed() -> None:
    shop, web = spec("shop"), spec("shop.web", "x")
    after = settled(recorded(record(shop), record(web)), status(shop), ended(web, exit_of(signal=9)))
    assert after.exit is not None and after.exit.reason is Reason.SIGNALED
    assert after.failures == 1


def test_delays_never_exceed_the_cap_nor_overflow() -> None:
    steep = Backoff(initial=0.1, factor=1000, max=60)
    assert backoff.delay(steep, 10**6, 0.99) == 60
    assert backoff.delay(steep, 0) == 0.1
