"""Records and rows on disk: the loop's Journal.

    ROOT/containers/<name>/record.json   what was last applied; temporary file, rename; fsync of file and
                                         directory in one batch per pass (`flush`)
    RUNTIME/rows/<name>.json             one row of `ps` each; temporary file, rename, no fsync
    RUNTIME/notes.json                   remarks on the source

An unreadable record quarantines its own name only. A record says which form of the spec it holds, so that a
later version compares meanings, not bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reconciler.agent.paths import Places
from reconciler.loop.rows import as_json
from reconciler.loop.values import Life, Origin, Record, Recorded, Row
from reconciler.runtime.containerizer import Termination
from reconciler.spec import normal
from reconciler.states import Reason

RECORD = "record.json"
VERSION = 1


class Store:
    """See `loop.values.Journal`."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._dirty: set[Path] = set()
        self._published: dict[str, bytes] = {}
        self._notes: bytes | None = None

    # ---- records

    def load(self) -> Recorded:
        records: dict[str, Record] = {}
        unreadable: dict[str, str] = {}
        for name in self._names():
            path = self._directory(name) / RECORD
            try:
                records[name] = _from_json(json.loads(path.read_bytes()), name)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                unreadable[name] = f"{path} cannot be read, so {name} is left alone: {error}"
        return Recorded(records, unreadable)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._places.records) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def save(self, record: Record) -> None:
        directory = self._directory(record.name)
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        _replace(directory / RECORD, json.dumps(_to_json(record), separators=(",", ":")).encode())
        self._dirty.add(directory)

    def flush(self) -> None:
        """Raises OSError; what was not made durable is tried again by the next flush."""
        for directory in list(self._dirty):
            with contextlib.suppress(FileNotFoundError):
                _fsync(directory / RECORD)
                _fsync(directory)
                _fsync(directory.parent)
            self._dirty.discard(directory)

    def remove(self, name: str) -> None:
        directory = self._directory(name)
        self._dirty.discard(directory)
        if "." in name:
            _remove_tree(self.sandbox(name))
        # the record last: as long as it is there, the rest is known to be ours
        for part in ("logs", "sandbox"):
            _remove_tree(directory / part)
        _remove_tree(directory)

    def _directory(self, name: str) -> Path:
        return self._places.records / name

    def sandbox(self, name: str) -> Path:
        top, *labels = name.split(".")
        path = self._directory(top) / "sandbox"
        for label in labels:
            path = path / "containers" / label
        return path

    def logs(self, name: str) -> Path:
        return self._directory(name) / "logs"

    # ---- rows

    def publish(self, rows: Iterable[Row], notes: Mapping[str, str]) -> None:
        """Only what differs from the last time is written."""
        self._places.rows.mkdir(mode=0o711, parents=True, exist_ok=True)
        fresh = {row.name: json.dumps(as_json(row)).encode() for row in rows}
        for name, data in fresh.items():
            if self._published.get(name) != data:
                _replace(self._places.rows / f"{name}.json", data)
        for file in self._places.rows.glob("*.json"):
            if file.stem not in fresh:
                file.unlink(missing_ok=True)
        self._published = fresh
        if (data := json.dumps(dict(notes)).encode()) != self._notes:
            _replace(self._places.notes, data)
            self._notes = data


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.rename(path)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove_tree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _to_json(record: Record) -> dict[str, Any]:
    return {
        "version": VERSION,
        "name": record.name,
        "schema": record.schema,
        "spec": normal.dump(record.spec),
        "digest": record.digest,
        "generation": record.generation,
        "origin": asdict(record.origin),
        "life": asdict(record.life),
        "deleting": record.deleting,
    }


def _from_json(data: dict[str, Any], name: str) -> Record:
    if data["version"] != VERSION:
        raise ValueError(f"it was written in version {data['version']} of the form, this is version {VERSION}")
    if data["name"] != name:
        raise ValueError(f"it is about {data['name']!r}")
    life = dict(data["life"])
    if life["exit"] is not None:
        life["exit"] = Termination(**{**life["exit"], "reason": Reason(life["exit"]["reason"])})
    return Record(
        name=name,
        schema=data["schema"],
        spec=normal.load(data["spec"], data["schema"]),
        digest=data["digest"],
        generation=data["generation"],
        origin=Origin(**data["origin"]),
        life=Life(**life),
        deleting=data["deleting"],
    )
