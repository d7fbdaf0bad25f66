"""Events on disk: a line of JSON each, bounded, beside what they are about.

    ROOT/containers/<name>/events.jsonl    a container's; goes when it goes
    ROOT/events.jsonl                      the agent's own, and the ends of containers that are gone

At `SIZE` a file becomes `events.1.jsonl`, in place of the one before it: a container that fails all day drowns out
only itself. Nothing is decided on events, so they are not fsynced, and a disk that is full costs events, no pass.
Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from reconciler.agent.paths import Places
from reconciler.loop.events import Event, as_json
from reconciler.states import EventType

log = logging.getLogger(__name__)

FILE, OLDER = "events.jsonl", "events.1.jsonl"
SIZE = 128 * 1024
_RECORD = "record.json"


class EventLog:
    def __init__(self, places: Places) -> None:
        self._places = places

    def append(self, events: Sequence[Event]) -> None:
        """In this order. Never raises: it is logged what could not be written."""
        lines: dict[Path, list[str]] = {}
        for event in events:
            lines.setdefault(self._file(event), []).append(json.dumps(as_json(event), separators=(",", ":")) + "\n")
        for path, texts in lines.items():
            try:
                _append(path, "".join(texts).encode())
            except OSError as error:
                log.warning("%d events could not be written to %s: %s", len(texts), path, error)

    def _file(self, event: Event) -> Path:
        """What goes has no place of its own in which to say so."""
        going = event.type is EventType.DESTROYED or event.details.get("op") == "destroy"
        if event.name is None or going or not (self._places.records / event.name / _RECORD).exists():
            return self._places.events
        return self._places.records / event.name / FILE


def _append(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        if os.fstat(fd).st_size + len(data) > SIZE:
            path.rename(path.with_name(OLDER))
            os.close(fd)
            fd = os.open(path, flags, 0o600)
        os.write(fd, data)
    finally:
        os.close(fd)


def files(places: Places, names: Iterable[str] = ()) -> list[Path]:
    """Older before newer; of those names and what is nested in them, or all there are. The agent's own is always among
    them: what it says of a name that is gone counts as that name's."""
    wanted = tuple(names)
    directories = [places.root]
    if places.records.is_dir():
        directories += [directory for directory in sorted(places.records.iterdir()) if about(directory.name, wanted)]
    return [directory / file for directory in directories for file in (OLDER, FILE) if (directory / file).is_file()]


def about(name: str | None, wanted: Sequence[str]) -> bool:
    """Whether an event of `name` is one of those wanted; nothing wanted: all are."""
    return not wanted or (name is not None and any(name == one or name.startswith(one + ".") for one in wanted))


def parse(line: bytes) -> dict[str, Any] | None:
    """None for a line that cannot be understood, as a crash may leave it."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"at", "name", "type", "message"} <= event.keys() else None


def past(places: Places, name: str) -> list[dict[str, Any]]:
    """What is kept of that container alone, oldest first."""
    found = []
    for file in (OLDER, FILE):
        with contextlib.suppress(FileNotFoundError):
            lines = (places.records / name / file).read_bytes().splitlines()
            found += [event for line in lines if (event := parse(line)) is not None]
    return found
