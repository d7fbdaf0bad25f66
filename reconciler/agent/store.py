"""Records and rows on disk: the loop's Journal.

    ROOT/containers/<name>/record.json   what was last applied; temporary file, rename; fsync of file and
                                         directory in one batch per pass (`flush`)
    ROOT/containers/<name>/revisions.json  see `revisions`
    ROOT/marks/                          see `marks`
    RUNTIME/rows/<name>.json             one row of `ps` each; temporary file, rename, no fsync; public: a script may
                                         wait for it to change
    RUNTIME/notes.json                   remarks on the source

An unreadable record quarantines its own name only. A record says which form of the spec it holds, so that a
later version compares meanings, not bytes. Sandboxes belong to containers, which may have put links anywhere in
them: no link is followed on the way to what is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reconciler.agent import marks, revisions
from reconciler.agent.eventlog import EventLog
from reconciler.agent.lock import say_published
from reconciler.agent.paths import Places, sandbox_of
from reconciler.loop.events import Event, between
from reconciler.loop.revisions import Revision
from reconciler.loop.rows import as_json
from reconciler.loop.values import Life, Origin, Record, Recorded, Row
from reconciler.runtime import durable
from reconciler.runtime.containerizer import Termination
from reconciler.runtime.kernel import removal
from reconciler.spec import normal
from reconciler.spec.sources.listing import Commit
from reconciler.states import Reason

RECORD = "record.json"
VERSION = 1


class Store:
    """See `loop.values.Journal`."""

    def __init__(self, places: Places, heard: Callable[[Sequence[Event]], None] = lambda events: None) -> None:
        """heard: called in a thread with events that were just written down."""
        self._places = places
        self._log, self._heard = EventLog(places), heard
        self._dirty: set[Path] = set()
        self._published: dict[str, bytes] | None = None
        self._notes: bytes | None = None

    # ---- records

    def load(self) -> Recorded:
        records: dict[str, Record] = {}
        unreadable: dict[str, str] = {}
        for name in self._names():
            path = self._directory(name) / RECORD
            try:
                data = path.read_bytes()
                if not data.strip(b"\0") and _before_boot(path):
                    continue  # the machine lost power before it was durable; nothing of it can run any more
                records[name] = _from_json(json.loads(data), name)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                unreadable[name] = f"{path} cannot be read, so {name} is left alone: {error}"
        return Recorded(records, unreadable)

    def ready(self) -> dict[str, int]:
        rows = [row for data in self._left().values() if (row := _row(data)) is not None]
        return {row["name"]: row["pid"] for row in rows if row.get("ready") and row.get("pid")}

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._places.records) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def save(self, record: Record) -> None:
        directory = self._directory(record.name)
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        durable.replace(directory / RECORD, json.dumps(_to_json(record), separators=(",", ":")).encode(), sync=False)
        self._dirty.add(directory)

    def flush(self) -> None:
        """Raises OSError; what was not made durable is tried again by the next flush."""
        batch = {self._dirty.pop() for _ in range(len(self._dirty))}
        try:
            for directory in batch:
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    durable.fsync(directory / RECORD)
                    durable.fsync(directory)
            if batch:
                durable.fsync(self._places.records)
        except OSError:
            self._dirty |= batch
            raise

    def marks(self, kind: str) -> Mapping[str, Mapping[str, Any]]:
        return marks.read(self._places.marks, kind)

    def mark(self, kind: str, name: str, details: Mapping[str, Any] | None) -> None:
        marks.write(self._places.marks, kind, name, details)

    def revisions(self, name: str) -> tuple[Revision, ...]:
        return revisions.read(self._directory(name))

    def remember(self, name: str, kept: Sequence[Revision]) -> None:
        revisions.write(self._directory(name), kept)

    def remove(self, name: str) -> None:
        """The record goes last: as long as it is there, the rest is known to be ours."""
        directory = self._directory(name)
        self._dirty.discard(directory)
        if "." in name:
            top, *labels = name.split(".")
            inside = [part for label in labels for part in ("containers", label)]
            removal.remove_below(self._directory(top), ["sandbox", *inside])
        for part in ("logs", "sandbox"):
            removal.remove_below(directory, [part])
        removal.remove_below(self._places.records, [name])

    def _directory(self, name: str) -> Path:
        return self._places.records / name

    def sandbox(self, name: str) -> Path:
        return sandbox_of(self._places, name)

    def logs(self, name: str) -> Path:
        return self._directory(name) / "logs"

    # ---- rows

    def publish(self, rows: Iterable[Row], notes: Mapping[str, str], told: Sequence[Event]) -> None:
        """Only what differs is written: from the last time, and the first time from what an earlier agent left."""
        self._places.rows.mkdir(mode=0o711, parents=True, exist_ok=True)
        old = self._left() if self._published is None else self._published
        fresh = {row.name: json.dumps(as_json(row)).encode() for row in rows}
        happened = [*told, *_differences(old, fresh)]
        self._log.append(happened)
        for name, data in fresh.items():
            if old.get(name) != data:
                durable.replace(self._places.rows / f"{name}.json", data, sync=False)
        for name in old.keys() - fresh.keys():
            (self._places.rows / f"{name}.json").unlink(missing_ok=True)
        self._published = fresh
        if happened:
            self._heard(happened)
        if (data := json.dumps(dict(notes)).encode()) != self._notes:
            if self._notes is None:
                say_published(self._places)
            _renew(self._places.notes, data)
            self._notes = data

    def _left(self) -> dict[str, bytes]:
        """The rows of an earlier agent."""
        found = {}
        for file in self._places.rows.glob("*.json"):
            with contextlib.suppress(OSError):
                found[file.stem] = file.read_bytes()
        return found


def _differences(old: Mapping[str, bytes], fresh: Mapping[str, bytes]) -> Iterator[Event]:
    now = time.time()
    for name in sorted(old.keys() | fresh.keys(), key=lambda name: name.split(".")):
        before, after = old.get(name), fresh.get(name)
        if before != after:
            yield from between(_row(before), _row(after), now)


def _row(data: bytes | None) -> dict[str, Any] | None:
    """None for one that an earlier version left in a form of its own."""
    try:
        found: dict[str, Any] | None = json.loads(data) if data else None
    except ValueError:
        return None
    return found


def _renew(path: Path, data: bytes) -> None:
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    durable.replace(path, data, sync=False)


def _before_boot(path: Path) -> bool:
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return path.stat().st_mtime < booted


def _to_json(record: Record) -> dict[str, Any]:
    return {
        "version": VERSION,
        "name": record.name,
        "schema": record.schema,
        "spec": normal.dump(record.spec),
        "digest": record.digest,
        "generation": record.generation,
        "origin": _origin_json(record.origin),
        "life": asdict(record.life),
        "deleting": record.deleting,
        "contents": dict(record.contents),
    }


def _origin_json(origin: Origin) -> dict[str, Any]:
    """A commit is only there where the source has such: earlier versions know of none."""
    return {key: value for key, value in asdict(origin).items() if key != "commit" or value is not None}


def _origin(data: Mapping[str, Any]) -> Origin:
    commit = data.get("commit")
    return Origin(data["source"], data["file"], data["line"], Commit(**commit) if commit else None)


def _from_json(data: dict[str, Any], name: str) -> Record:
    if data["version"] != VERSION:
        raise ValueError(f"it was written in version {data['version']} of the form, this is version {VERSION}")
    if data["name"] != name:
        raise ValueError(f"it is about {data['name']!r}")
    life = dict(data["life"])
    life["failed_at"] = tuple(life.get("failed_at", ()))
    if life["exit"] is not None:
        life["exit"] = Termination(**{**life["exit"], "reason": Reason(life["exit"]["reason"])})
    return Record(
        name=name,
        schema=data["schema"],
        spec=normal.load(data["spec"], data["schema"]),
        digest=data["digest"],
        generation=data["generation"],
        origin=_origin(data["origin"]),
        life=Life(**life),
        deleting=data["deleting"],
        contents=data.get("contents", {}),
    )
