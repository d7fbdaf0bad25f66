"""Records survive what may happen to a disk; each suffers for itself alone."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from reconciler.agent.paths import Places
from reconciler.agent.store import Store
from reconciler.loop.revisions import remembered
from reconciler.loop.values import Life, Row, Tree
from reconciler.runtime.containerizer import Termination
from reconciler.states import ContainerState, Reason, Status
from tests.unit.agent.conftest import record


def test_a_mark_stands_although_what_it_says_cannot_be_read(places: Places) -> None:
    store = Store(places)
    store.mark("suspended", "shop.web", {"by": "me"})
    assert Store(places).marks("suspended") == {"shop.web": {"by": "me"}}
    (places.marks / "suspended" / "shop.web.json").write_bytes(b"\0\0")
    assert store.marks("suspended") == {"shop.web": {}}
    store.mark("suspended", "shop.web", None)
    store.mark("held", "never", None)
    assert (store.marks("suspended"), store.marks("held")) == ({}, {})


def row(name: str, message: str = "") -> Row:
    return Row(
        name=name,
        parent=None,
        type="mesos",
        status=Status.RUNNING,
        state=ContainerState.RUNNING,
        ready=True,
        pid=7,
        restarts=0,
        generation=1,
        digest="d",
        source="/specs/a.yaml",
        message=message,
        reason=None,
        started_at=None,
        exit=None,
        next_try=None,
        namespaces={},
        cgroups={},
        sandbox="",
    )


def test_what_was_saved_is_loaded_again(store: Store, places: Places) -> None:
    ended = Termination(3, None, Reason.EXITED, 12.5, "exited with code 3")
    saved = record("shop", Life(starts=4, failures=2, next_try=99.0, exit=ended))
    store.save(saved)
    store.save(record("shop.web"))
    store.flush()
    assert Store(places).load().records == {"shop": saved, "shop.web": record("shop.web")}


def test_a_root_that_does_not_exist_has_no_records(store: Store) -> None:
    assert store.load().records == {}


@pytest.mark.parametrize(
    "torn",
    [b"", b"{", b"null", b"[]", b"\x00" * 64, b"\xff\xfe", b'{"version": 99, "name": "bad"}', b'{"version": 1}'],
)
def test_an_unreadable_record_quarantines_its_own_name_alone(store: Store, places: Places, torn: bytes) -> None:
    store.save(record("good"))
    store.save(record("bad"))
    (places.records / "bad" / "record.json").write_bytes(torn)
    found = store.load()
    assert list(found.records) == ["good"]
    assert list(found.unreadable) == ["bad"]
    assert str(places.records / "bad" / "record.json") in found.unreadable["bad"]


def test_a_record_about_another_name_is_not_believed(store: Store, places: Places) -> None:
    store.save(record("one"))
    (places.records / "one").rename(places.records / "two")
    assert list(store.load().unreadable) == ["two"]


def test_a_record_that_a_power_cut_emptied_never_was(store: Store, places: Places) -> None:
    store.save(record("lost"))
    path = places.records / "lost" / "record.json"
    path.write_bytes(b"\0" * 100)
    os.utime(path, (1.0, 1.0))
    found = store.load()
    assert (found.records, found.unreadable) == ({}, {})


def test_a_crash_before_the_rename_leaves_the_record_as_it_was(store: Store, places: Places) -> None:
    store.save(record("shop"))
    (places.records / "shop" / "record.json.new").write_text('{"version": 1, "na')
    assert store.load().records["shop"] == record("shop")
    store.save(record("shop"))
    assert store.load().records["shop"] == record("shop")


def test_records_and_rows_are_for_their_owner_alone(store: Store, places: Places) -> None:
    store.save(record("shop"))
    store.publish([row("shop")], {}, [])
    for path in (places.records / "shop" / "record.json", places.rows / "shop.json", places.notes):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_flush_that_fails_is_made_up_for_by_the_next(
    store: Store, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(record("shop"))
    synced: list[str] = []

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    def note(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        store.flush()
    monkeypatch.setattr(os, "fsync", note)
    store.flush()
    base = places.records
    assert synced == [str(base / "shop" / "record.json"), str(base / "shop"), str(base)]
    store.flush()
    assert len(synced) == 3


def test_a_name_that_is_removed_before_the_flush_is_no_error(store: Store) -> None:
    store.save(record("shop"))
    store.remove("shop")
    store.flush()


def test_removing_takes_record_logs_and_sandbox(store: Store, places: Places) -> None:
    store.save(record("shop"))
    for directory in (store.sandbox("shop") / "deep", store.logs("shop") / "previous"):
        directory.mkdir(parents=True)
        (directory / "file").touch()
    store.remove("shop")
    store.remove("shop")
    assert list(places.records.iterdir()) == []


def test_removing_a_nested_name_leaves_its_parent(store: Store) -> None:
    for name in ("shop", "shop.web"):
        store.save(record(name))
        store.sandbox(name).mkdir(parents=True, exist_ok=True)
    store.remove("shop.web")
    assert not store.sandbox("shop.web").exists()
    assert store.sandbox("shop").is_dir()
    assert list(store.load().records) == ["shop"]


def test_a_link_that_a_container_planted_is_not_followed(store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "web").mkdir(parents=True)
    (victim / "web" / "precious").touch()
    for name in ("shop", "shop.web"):
        store.save(record(name))
    store.sandbox("shop").mkdir()
    (store.sandbox("shop") / "containers").symlink_to(victim)
    store.remove("shop.web")
    store.remove("shop")
    assert (victim / "web" / "precious").exists()
    assert store.load().records == {}


def test_rows_are_written_when_they_change_and_leave_with_their_name(store: Store, places: Places) -> None:
    store.publish([row("a"), row("b")], {"x.txt": "no spec file"}, [])
    before = (places.rows / "a.json").stat().st_ino
    store.publish([row("a"), row("b", "new")], {"x.txt": "no spec file"}, [])
    assert (places.rows / "a.json").stat().st_ino == before
    assert json.loads((places.rows / "b.json").read_text())["message"] == "new"
    store.publish([row("b", "new")], {}, [])
    assert [path.name for path in places.rows.iterdir()] == ["b.json"]
    assert json.loads(places.notes.read_text()) == {}


def test_what_an_earlier_agent_published_alike_is_left_as_it_is(store: Store, places: Places) -> None:
    Store(places).publish([row("a")], {"x.txt": "no spec file"}, [])
    before = [(places.rows / "a.json").stat().st_ino, places.notes.stat().st_ino]
    store.publish([row("a")], {"x.txt": "no spec file"}, [])
    assert [(places.rows / "a.json").stat().st_ino, places.notes.stat().st_ino] == before


def test_rows_of_an_earlier_agent_leave_too(store: Store, places: Places) -> None:
    Store(places).publish([row("old")], {}, [])
    store.publish([row("new")], {}, [])
    assert [path.name for path in places.rows.iterdir()] == ["new.json"]


def test_revisions_go_with_their_record_and_come_back_without_it(store: Store, places: Places) -> None:
    shop = record("shop")
    kept = remembered((), Tree("d", (shop.spec,), shop.origin), 12.5)
    store.remember("shop", kept)
    assert not places.records.exists(), "of what was never applied nothing is kept"
    store.save(shop)
    store.remember("shop", kept)
    assert Store(places).revisions("shop") == kept
    assert stat.S_IMODE((places.records / "shop" / "revisions.json").stat().st_mode) == 0o600
    (places.records / "shop" / "revisions.json").write_bytes(b"\0\0")
    assert store.revisions("shop") == ()
    store.remove("shop")
    assert not (places.records / "shop").exists()
