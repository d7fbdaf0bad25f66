"""Rows that a dead agent left are shown as what is true now."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.agent import report
from reconciler.agent.corrections import NO_AGENT, correct, corrected
from reconciler.agent.lock import AgentLock
from reconciler.agent.paths import Places
from reconciler.agent.store import Store
from reconciler.loop.values import Life
from reconciler.runtime.containerizer import ContainerStatus, Termination
from reconciler.states import ContainerState, Reason
from tests.unit.agent.conftest import record
from tests.unit.agent.test_store import row

LEFT = {"name": "web", "status": "Running", "state": "RUNNING", "pid": 7, "ready": True, "nextTry": None}
LEFT |= {"exit": None, "message": "as before", "reason": None, "startedAt": None, "namespaces": {}, "cgroups": {}}


def ended(code: int | None, signal: int | None = None, reason: Reason = Reason.EXITED) -> ContainerStatus:
    return ContainerStatus("web", "mesos", None, "d", termination=Termination(code, signal, reason, 5.0))


def shown(found: dict[str, Any]) -> tuple[Any, ...]:
    return found["status"], found["pid"], found["ready"], found["message"]


@pytest.mark.parametrize(
    ("seen", "status", "message"),
    [
        (ended(0), "Completed", f"exited with code 0; {NO_AGENT}"),
        (ended(3), "Failed", f"exited with code 3; {NO_AGENT}"),
        (ended(None, 9, Reason.SIGNALED), "Failed", f"was killed by signal 9 (SIGKILL); {NO_AGENT}"),
        (ended(None, 9, Reason.PARENT_ENDED), "Completed", f"ended with its parent; {NO_AGENT}"),
        (None, "Pending", NO_AGENT),
    ],
)
def test_what_is_gone_has_ended(seen: ContainerStatus | None, status: str, message: str) -> None:
    assert shown(corrected(LEFT, seen)) == (status, None, False, message)


def test_what_runs_runs_with_the_pid_it_has_now() -> None:
    seen = ContainerStatus("web", "mesos", ContainerState.RUNNING, "d", pid=8, started_at=0.0, namespaces={"pid": 5})
    found = corrected({**LEFT, "status": "Starting", "pid": None}, seen)
    assert shown(found) == ("Running", 8, True, "as before")
    assert (found["startedAt"], found["namespaces"]) == ("1970-01-01T00:00:00.000Z", {"pid": 5})


def test_a_crash_loop_without_an_agent_is_over() -> None:
    exit = {"code": 1, "signal": None, "reason": "Exited", "oomKilled": False, "message": ""}
    waiting = {**LEFT, "status": "CrashLoop", "nextTry": "soon", "exit": {**exit, "at": "1970-01-01T00:00:05.000Z"}}
    found = corrected(waiting, None)
    assert (found["status"], found["nextTry"]) == ("Failed", None)


@pytest.mark.parametrize("status", ["Invalid", "Blocked", "Conflict", "Held", "Suspended", "Ignored"])
def test_what_was_not_run_still_is_not_and_for_the_same_reason(status: str) -> None:
    assert shown(corrected({**LEFT, "status": status, "pid": None}, None)) == (status, None, False, "as before")


def test_after_a_reboot_the_records_speak(places: Places, store: Store) -> None:
    store.save(record("ran", Life(starts=2, started_at=1.0)))
    store.save(record("done", Life(starts=1, exit=Termination(0, None, Reason.EXITED, 4.0), finished=True)))
    store.save(record("new", Life()))
    found = correct(places, {}, agent_starts=False)
    assert {name: (row["status"], row["reason"]) for name, row in found.items()} == {
        "ran": ("Failed", "ExitStatusLost"),
        "done": ("Completed", "Exited"),
        "new": ("Pending", None),
    }
    assert found["ran"]["restarts"] == 1
    assert found["ran"]["source"] == "/specs/ran.yaml"


def test_an_unreadable_record_is_shown_as_held(places: Places, store: Store) -> None:
    store.save(record("bad"))
    (places.records / "bad" / "record.json").write_text("{")
    found = correct(places, {}, agent_starts=False)["bad"]
    assert (found["status"], found["reason"]) == ("Held", "RecordUnreadable")
    assert "cannot be read" in found["message"]


def test_a_row_has_the_same_keys_whoever_made_it(places: Places, store: Store) -> None:
    store.save(record("a"))
    store.publish([row("b")], {}, [])
    from_record, from_agent = report.rows(places)
    assert from_record.keys() == from_agent.keys()


def test_a_root_that_does_not_exist_has_no_rows(places: Places) -> None:
    assert report.rows(places) == []
    assert not places.root.exists() and not places.runtime_dir.exists()


def test_a_living_agents_rows_are_believed_once_it_has_looked(places: Places) -> None:
    Store(places).publish([row("web")], {}, [])
    with AgentLock(places, "/specs"):
        assert report.rows(places)[0]["status"] == "Pending", "pid 7 is nobody that was launched"
        Store(places).publish([row("web")], {}, [])
        assert report.rows(places)[0]["status"] == "Running"


def test_rows_come_parents_first(places: Places) -> None:
    Store(places).publish([row(name) for name in ("a.b", "a-c", "a.b.c", "a")], {}, [])
    assert [found["name"] for found in report.rows(places)] == ["a", "a.b", "a.b.c", "a-c"]


def test_a_row_that_vanishes_while_looking_is_no_error(places: Places) -> None:
    Store(places).publish([row("web")], {}, [])
    (places.rows / "gone.json").symlink_to("nowhere")
    assert [found["name"] for found in report.rows(places)] == ["web"]
    assert json.loads(places.notes.read_text()) == report.notes(places) == {}
