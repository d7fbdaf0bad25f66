"""Judging specs alone, as `check` does: no state, no host. What a host cannot do, `plan` adds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.runtime.docker.refusals import refusals
from reconciler.spec.loader import MAX_BYTES, Document, load_bytes
from reconciler.spec.sources import reading
from reconciler.spec.sources.directory import DirectorySource
from reconciler.spec.sources.listing import FileEntry, Listing, ListingState
from reconciler.spec.support import unsupported


@dataclass(slots=True)
class Checked:
    """faults: one line each, file:line:column first. names: every container that is valid, nested ones too."""

    files: int = 0
    names: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "files": self.files,
            "containers": self.names,
            "errors": self.faults,
            "ignored": [{"path": path, "reason": why} for path, why in self.ignored],
        }


def check(paths: Sequence[Path]) -> Checked:
    result = Checked()
    places: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        for entry in _entries(path, result):
            result.files += 1
            result.faults += [str(error) for error in entry.parsed.errors]
            for document in entry.parsed.documents:
                places[document.name].append(f"{entry.path}:{document.line}")
                _check_document(entry, document, result)
    for name, where in sorted(places.items()):
        if len(where) > 1:
            result.faults.append(f"{where[1]}: metadata.name: {name} is defined more than once: {', '.join(where)}")
    return result


def _check_document(entry: FileEntry, document: Document, result: Checked) -> None:
    for spec in document.containers:
        result.names.append(spec.name)
        engine = refusals(spec) if spec.type == "docker" else ()
        for field_, message in (*unsupported(spec), *engine):
            line, column = document.locate(field_, spec.name)
            result.faults.append(f"{entry.path}:{line}:{column}: spec.{field_}: {message}")
        if spec.isolators and spec.type == "mesos":
            from reconciler.runtime.isolation import wrong_options

            line, column = document.locate("isolators", spec.name)
            result.faults += [f"{entry.path}:{line}:{column}: {why}" for why in wrong_options(spec)]


def _entries(path: Path, result: Checked) -> Sequence[FileEntry]:
    if not path.is_dir():
        return _file(path, result)
    listing = _listing(path)
    if listing.state is not ListingState.OK:
        result.faults.append(f"{path}:1:1: cannot be listed: {listing.reason}")
    result.ignored += listing.ignored
    result.faults += [f"{busy}:1:1: is being written by another program; try again" for busy in listing.busy]
    return listing.files


def _listing(path: Path) -> Listing:
    return DirectorySource(path, lambda: None).list()


def _file(path: Path, result: Checked) -> Sequence[FileEntry]:
    try:
        content = reading.read(str(path), MAX_BYTES)
    except reading.Busy:
        result.faults.append(f"{path}:1:1: is being written by another program; try again")
    except reading.NotAFile as error:
        result.faults.append(f"{path}:1:1: is {error}, not a spec file")
    except OSError as error:
        result.faults.append(f"{path}:1:1: cannot be read: {error.strerror}")
    else:
        return [FileEntry(str(path), "", load_bytes(content.data, str(path)))]
    return []
