"""Events are the differences between rows, in the order in which things must have happened."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.loop.events import Event, as_json, between, source_changed
from reconciler.states import EventType

EXIT = {
    "code": 3,
    "signal": None,
    "reason": "Exited",
    "oomKilled": False,
    "message": "",
    "at": "2026-01-01T00:00:09.000Z",
}


def row(**changes: object) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "web",
        "status": "Running",
        "reason": None,
        "message": "",
        "ready": True,
        "pid": 7,
        "startedAt": "2026-01-01T00:00:00.000Z",
        "restarts": 0,
        "generation": 1,
        "digest": "d" * 64,
        "source": "/specs/web.yaml",
        "exit": None,
        "limitations": {},
    }
    return base | changes


def types(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[EventType]:
    return [event.type for event in between(before, after, 1.0)]


A, S, E, ST = EventType.APPLIED, EventType.STARTED, EventType.ENDED, EventType.STATUS


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, row(), [A, S, ST]),
        (row(), row(), []),
        (row(), row(message="another note"), []),
        (row(), None, [EventType.DESTROYED]),
        (row(), row(exit=EXIT, pid=None, startedAt=None, status="CrashLoop", ready=False), [E, ST]),
        (row(), row(exit=EXIT, pid=8, startedAt="2026-01-01T00:00:10.000Z", restarts=1), [E, S]),
        (row(), row(generation=2), [A]),
        (row(ready=False), row(), [EventType.READY]),
        (row(), row(ready=False), [EventType.NOT_READY]),
        (row(), row(limitations={"disk/du": "7 of 5 MiB"}), [EventType.LIMITATION]),
        (row(limitations={"disk/du": "7 of 5 MiB"}), row(limitations={"disk/du": "8 of 5 MiB"}), []),
        (row(limitations={"disk/du": "7 of 5 MiB"}), row(), [EventType.LIMITATION_OVER]),
        (row(limitations={"disk/du": "7 of 5 MiB"}), row(pid=None, startedAt=None, status="Completed"), [ST]),
        (row(pid=None, startedAt=None, status="Starting"), row(pid=7, startedAt=None, status="Starting"), []),
    ],
)
def test_what_differs_is_told_in_order(
    before: dict[str, Any] | None, after: dict[str, Any] | None, told: list[EventType]
) -> None:
    assert types(before, after) == told


@pytest.mark.parametrize(
    ("exit", "message"),
    [
        (EXIT | {"message": "exited with code 3"}, "exited with code 3 (Exited)"),
        (EXIT | {"code": None, "signal": 9, "reason": "Signaled"}, "killed by SIGKILL (Signaled)"),
        (EXIT | {"code": None, "reason": "ExitStatusLost"}, "ended, its status is not known (ExitStatusLost)"),
        (
            EXIT | {"code": 127, "reason": "LaunchFailed", "message": "exec /bin/no: No such file"},
            "exited with code 127 (LaunchFailed): exec /bin/no: No such file",
        ),
    ],
)
def test_how_a_run_ended_is_said_in_words(exit: dict[str, Any], message: str) -> None:
    assert [event.message for event in between(row(), row(exit=exit), 1.0)] == [message]


def test_a_source_is_told_of_when_it_goes_and_when_it_is_back() -> None:
    gone = source_changed("", "no such directory", 1.0)
    back = source_changed("no such directory", "", 2.0)
    assert gone is not None and (gone.type, gone.name) == (EventType.SOURCE_UNKNOWN, None)
    assert back is not None and back.type is EventType.SOURCE_KNOWN
    assert source_changed("no such directory", "permission denied", 3.0) is None
    assert source_changed("", "", 3.0) is None


def test_an_event_is_one_flat_object() -> None:
    event = Event(0.0, EventType.STARTED, "web", "pid 7", {"pid": 7})
    assert as_json(event) == {
        "at": "1970-01-01T00:00:00.000Z",
        "name": "web",
        "type": "Started",
        "message": "pid 7",
        "pid": 7,
    }
