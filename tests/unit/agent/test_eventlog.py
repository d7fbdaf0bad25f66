"""Events on disk: with their container, bounded, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

from reconciler.agent import eventlog
from reconciler.agent.eventlog import EventLog
from reconciler.agent.paths import Places
from reconciler.agent.store import Store
from reconciler.loop.events import Event
from reconciler.states import EventType
from tests.unit.agent.conftest import record


def event(name: str | None, message: str = "", kind: EventType = EventType.STATUS, **details: object) -> Event:
    return Event(1.0, kind, name, message, details)


def lines(path: Path) -> list[str]:
    return [json.loads(line)["message"] for line in path.read_text().splitlines()]


def test_a_containers_events_lie_beside_its_record(store: Store, places: Places) -> None:
    store.save(record("shop"))
    EventLog(places).append([event("shop", "a"), event("other", "b"), event(None, "c"), event("shop", "d")])
    assert lines(places.records / "shop" / "events.jsonl") == ["a", "d"]
    assert lines(places.events) == ["b", "c"]
    assert [each["message"] for each in eventlog.past(places, "shop")] == ["a", "d"]


def test_that_it_was_destroyed_and_why_outlives_it(store: Store, places: Places) -> None:
    store.save(record("shop"))
    EventLog(places).append([event("shop", "its file is gone", EventType.ACTING, op="destroy")])
    store.remove("shop")
    EventLog(places).append([event("shop", "gone", EventType.DESTROYED)])
    assert lines(places.events) == ["its file is gone", "gone"]
    assert not (places.records / "shop").exists()


def test_a_file_is_bounded_and_the_newest_are_kept(store: Store, places: Places) -> None:
    store.save(record("shop"))
    log = EventLog(places)
    for number in range(40):
        log.append([event("shop", f"{number} " + "x" * 8000)])
    kept = [int(each["message"].split()[0]) for each in eventlog.past(places, "shop")]
    assert kept == list(range(kept[0], 40)) and len(kept) >= 15
    sizes = [(places.records / "shop" / file).stat().st_size for file in (eventlog.OLDER, eventlog.FILE)]
    assert max(sizes) <= eventlog.SIZE


def test_a_torn_line_costs_that_line_alone(store: Store, places: Places) -> None:
    store.save(record("shop"))
    path = places.records / "shop" / "events.jsonl"
    path.write_bytes(b'{"at": "2026", "na\n[1]\n')
    EventLog(places).append([event("shop", "a")])
    assert [each["message"] for each in eventlog.past(places, "shop")] == ["a"]


def test_a_link_planted_in_its_place_is_not_written_through(store: Store, places: Places, tmp_path: Path) -> None:
    store.save(record("shop"))
    (tmp_path / "precious").write_text("as it was")
    (places.records / "shop" / "events.jsonl").symlink_to(tmp_path / "precious")
    EventLog(places).append([event("shop", "a")])
    assert (tmp_path / "precious").read_text() == "as it was"
