"""Notifications: transitions alone, and a receiver that fails or hangs holds nothing up."""

from __future__ import annotations

import http.server
import json
import threading
import time
from pathlib import Path

import pytest

from reconciler.agent import notify
from reconciler.agent.notify import Notifier, Transitions
from reconciler.loop.events import Event
from reconciler.states import EventType


def status(old: str | None, new: str, name: str = "web") -> Event:
    return Event(1.0, EventType.STATUS, name, new, {"from": old, "to": new, "reason": None})


def told(*events: Event) -> list[str]:
    transitions = Transitions()
    return [event.message for each in events for event in transitions.among([each])]


def test_a_start_is_told_once_it_runs() -> None:
    assert told(status(None, "Starting"), status("Starting", "Running")) == ["Running"]


def test_a_crash_loop_is_told_once_not_at_each_turn() -> None:
    turn = [status("CrashLoop", "Starting"), status("Starting", "CrashLoop")]
    first = [status("Running", "Starting"), status("Starting", "CrashLoop")]
    assert told(*first, *turn, *turn, status("CrashLoop", "Running")) == ["CrashLoop", "Running"]


def test_what_came_back_as_it_was_is_no_transition() -> None:
    assert told(status("Running", "Starting"), status("Starting", "Running")) == []


def test_other_events_are_not_told_and_an_end_is() -> None:
    started = Event(1.0, EventType.STARTED, "web", "started")
    assert told(started, Event(1.0, EventType.DESTROYED, "web", "gone")) == ["gone"]


def lines(path: Path, count: int, within: float = 10.0) -> list[str]:
    deadline = time.monotonic() + within
    while True:
        found = path.read_text().splitlines() if path.exists() else []
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def test_a_command_has_each_on_its_standard_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = tmp_path / "told"
    script.write_text(f"#!/bin/sh\ncat >> {out}\n")
    script.chmod(0o755)
    notifier = Notifier([str(script)])
    notifier.hear([status(None, "Running"), status("Running", "Failed")])
    notifier.close(10.0)
    assert [json.loads(line)["to"] for line in lines(out, 2)] == ["Running", "Failed"]


def test_one_that_fails_or_hangs_does_not_keep_the_other_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "SECONDS", 0.2)
    out = tmp_path / "out"
    notifier = Notifier(["/no/such/program", "sh -c 'sleep 400123 & wait'", f"dd of={out} status=none"])
    notifier.hear([status(None, "Running")])
    notifier.close(10.0)
    assert json.loads(lines(out, 1)[0])["name"] == "web"
    assert not [each for each in Path("/proc").glob("[0-9]*/cmdline") if b"400123" in _read(each)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_webhook_gets_a_post_of_json() -> None:
    got: list[tuple[str | None, bytes]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        notify.tell(f"http://127.0.0.1:{server.server_port}/hook", '{"name": "web"}')
        thread.join(10)
    assert got == [("application/json", b'{"name": "web"}')]
