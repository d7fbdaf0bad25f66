"""What `ps` says: a status, and a message with why and what next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.loop.keeping import keep
from reconciler.loop.plan import plan
from reconciler.loop.rows import Facts, as_json, rows
from reconciler.loop.values import Desired, Life, Observed, Op, Origin, Recorded, Refusal, Row, Trouble
from reconciler.runtime.containerizer import ContainerStatus, Termination
from reconciler.states import ContainerState, Reason, Status
from tests.unit.loop.values import (
    NOW,
    SOURCE,
    asked,
    desire_files,
    desired,
    ended,
    exit_of,
    observed,
    record,
    recorded,
    spec,
    status,
)

WEB, SHOP, NESTED = spec("web", "x"), spec("shop", "main"), spec("shop.web", "x")


def rows_of(
    want: Desired,
    known: Recorded,
    seen: Observed,
    busy: dict[str, Op] | None = None,
    troubles: dict[str, Trouble] | None = None,
    before: frozenset[str] = frozenset(),
) -> dict[str, Row]:
    want, _ = keep(want, known, before=before)
    made = plan(want, known, seen, NOW, troubles=troubles)
    return rows(Facts(want, known, seen, made, busy or {}, troubles or {}, lambda name: Path("/root") / name))


def waiting(failures: int) -> Life:
    return Life(starts=failures, failures=failures, exit=exit_of(3, ago=1), next_try=NOW + 3)


def test_a_running_container() -> None:
    row = rows_of(desired(WEB), recorded(record(WEB)), observed(status(WEB)))["web"]
    assert (row.status, row.ready, row.pid, row.restarts, row.message) == (Status.RUNNING, True, 4711, 0, "")


def test_the_first_failure_is_starting_again_with_a_time() -> None:
    row = rows_of(desired(WEB), recorded(record(WEB, waiting(1))), observed(ended(WEB, exit_of(3))))["web"]
    assert (row.status, row.reason, row.next_try) == (Status.STARTING, Reason.BACKING_OFF, NOW + 3)
    assert row.message == "exited with code 3; restarting in 4.0 s, at 1970-01-12T13:46:43.000Z"


def test_the_second_failure_in_a_row_is_a_crash_loop() -> None:
    row = rows_of(desired(WEB), recorded(record(WEB, waiting(2))), observed(ended(WEB, exit_of(3))))["web"]
    assert (row.status, row.restarts) == (Status.CRASH_LOOP, 1)
    assert "2 failures in a row" in row.message


def test_a_finished_job_is_completed_or_failed() -> None:
    job = spec("job", "x", restart_policy="Never")
    for code, expected in ((0, Status.COMPLETED), (3, Status.FAILED)):
        life = Life(starts=1, exit=exit_of(code), finished=True)
        row = rows_of(desired(job), recorded(record(job, life)), observed(ended(job, exit_of(code))))["job"]
        assert (row.status, row.pid) == (expected, None)
        assert f"exited with code {code}" in row.message


def test_under_a_bad_file_the_last_good_version_runs_with_the_error_beside_it() -> None:
    bad = desire_files({"web.yaml": "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: web}\nspec: 3\n"})
    want = replace(bad, containers={"web": asked(WEB)})
    row = rows_of(want, recorded(record(WEB)), observed(status(WEB)))["web"]
    assert row.status is Status.RUNNING
    assert row.message.startswith("web.yaml:4:")


def test_invalid_only_where_nothing_runs() -> None:
    refusal = Refusal("web", Status.INVALID, Reason.INVALID_SPEC, "web.yaml:5:3: bad", Origin(SOURCE, "web.yaml"))
    row = rows_of(Desired(SOURCE, refusals={"web": refusal}), recorded(), observed())["web"]
    assert (row.status, row.message, row.source) == (Status.INVALID, "web.yaml:5:3: bad", "web.yaml")


def test_a_mass_deletion_is_held() -> None:
    row = rows_of(desired(), recorded(record(WEB)), observed(status(WEB)), before=frozenset({"web"}))["web"]
    assert (row.status, row.reason, row.pid) == (Status.HELD, Reason.MASS_DELETION, 4711)


def test_an_unknown_source_leaves_running_what_runs_and_says_so() -> None:
    want = desired(WEB, complete=False, unknown_reason="the directory is gone")
    row = rows_of(want, recorded(record(WEB)), observed(status(WEB)))["web"]
    assert (row.status, row.message) == (Status.RUNNING, "its source is unknown: the directory is gone")


def test_an_unobservable_container_is_stalled() -> None:
    row = rows_of(desired(WEB), recorded(record(WEB)), observed(web="no answer"))["web"]
    assert (row.status, row.reason, row.message) == (Status.STALLED, Reason.STATE_UNKNOWN, "no answer")


def test_a_terminal_trouble_blocks() -> None:
    trouble = Trouble(f"run:{asked(WEB).digest}", Reason.NOT_ON_THIS_LAUNCHER, "no cgroups here", NOW, terminal=True)
    row = rows_of(desired(WEB), recorded(record(WEB, Life())), observed(), troubles={"web": trouble})["web"]
    assert (row.status, row.reason) == (Status.BLOCKED, Reason.NOT_ON_THIS_LAUNCHER)
    assert row.message.startswith("no cgroups here")


def test_a_stuck_removal_is_stalled_with_the_next_try() -> None:
    trouble = Trouble("destroy:", Reason.DESTROY_FAILED, "pid 7 is in state D", NOW, 1, NOW + 1)
    leaving = recorded(replace(record(WEB), deleting=True))
    seen = observed(status(WEB, ContainerState.DESTROYING))
    row = rows_of(desired(), leaving, seen, troubles={"web": trouble})["web"]
    assert (row.status, row.reason, row.next_try) == (Status.STALLED, Reason.DESTROY_FAILED, NOW + 1)


def test_a_container_in_the_hands_of_a_worker() -> None:
    seen = observed(status(WEB, ContainerState.PREPARING))
    assert rows_of(desired(WEB), recorded(record(WEB)), seen, {"web": Op.CREATE})["web"].status is Status.STARTING
    leaving = observed(status(WEB, ContainerState.DESTROYING))
    row = rows_of(desired(), recorded(record(WEB)), leaving, {"web": Op.DESTROY})["web"]
    assert row.status is Status.STOPPING


def test_nested_containers_of_an_ended_parent_are_completed() -> None:
    over = Life(starts=1, exit=exit_of(1), finished=True)
    with_parent = Life(starts=1, exit=Termination(None, 9, Reason.PARENT_ENDED, NOW))
    main = spec("shop", "main", restart_policy="Never")
    known = recorded(record(main, over), record(NESTED, with_parent))
    found = rows_of(desired(main, NESTED), known, observed(ended(main, exit_of(1))))
    assert found["shop"].status is Status.FAILED
    assert (found["shop.web"].status, found["shop.web"].reason) == (Status.COMPLETED, Reason.PARENT_ENDED)


def test_nested_containers_wait_for_their_parent() -> None:
    known = recorded(record(SHOP, waiting(2)), record(NESTED, Life()))
    row = rows_of(desired(SHOP, NESTED), known, observed(ended(SHOP, exit_of(3))))["shop.web"]
    assert (row.status, row.reason, row.next_try) == (Status.PENDING, Reason.PARENT_NOT_RUNNING, NOW + 3)
    assert "CrashLoop" in row.message


def test_a_destroyed_name_leaves() -> None:
    assert rows_of(desired(), recorded(), observed()) == {}


def test_rows_do_not_change_because_time_passes() -> None:
    known, seen = recorded(record(WEB, waiting(2))), observed(ended(WEB, exit_of(3)))
    later = plan(desired(WEB), known, seen, NOW + 1)
    facts = Facts(desired(WEB), known, seen, later, {}, {}, lambda name: Path("/root") / name)
    assert rows(facts) == rows_of(desired(WEB), known, seen)


def test_the_json_of_a_row_has_the_public_keys() -> None:
    known = recorded(record(WEB, Life(starts=3, started_at=NOW, exit=exit_of(3))))
    found = as_json(rows_of(desired(WEB), known, observed(status(WEB)))["web"])
    assert {*found} == {
        *("name", "parent", "type", "status", "state", "ready", "pid", "restarts", "generation", "digest", "source"),
        "commit",
        *("message", "reason", "startedAt", "exit", "nextTry", "namespaces", "cgroups", "limitations", "sandbox"),
    }
    assert (found["status"], found["restarts"], found["startedAt"]) == ("Running", 2, "1970-01-12T12:46:40.000Z")
    assert sorted(found["exit"]) == ["at", "code", "message", "oomKilled", "reason", "signal"]


@pytest.mark.parametrize(
    ("db", "condition", "status_", "message"),
    [
        (status(spec("db", "x")), "Completed", Status.PENDING, "waits for db to be Completed, which is Running"),
        (None, "Ready", Status.PENDING, "waits for db to be Ready, which is CrashLoop"),
    ],
)
def test_what_waits_for_a_dependency_says_how_that_is(
    db: ContainerStatus | None, condition: str, status_: Status, message: str
) -> None:
    app = spec("app", "x", depends_on=({"container": "db", "condition": condition},))
    life = None if db else waiting(2)
    seen = observed(*([db] if db else []))
    row = rows_of(desired(app, spec("db", "x")), recorded(record(spec("db", "x"), life)), seen)["app"]
    assert (row.status, row.reason, row.message) == (status_, Reason.DEPENDENCY_NOT_MET, message)
