"""What reading verbs show: the agent's rows, or what is true without an agent. Standard library only, to be quick.

With a live agent its rows are the answer, from its first ones on. Else they are as old as the last agent's death,
and are corrected.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reconciler.agent.lock import holder
from reconciler.agent.paths import Places
from reconciler.errors import ReconcilerError

JsonRow = dict[str, Any]

_ANSWER_SECONDS = 2.0


def rows(places: Places) -> list[JsonRow]:
    """Parents before their nested; [] for a root that does not exist."""
    published = _published(places)
    agent = holder(places)
    if agent is None or not agent.published:
        from reconciler.agent.corrections import correct  # a third of the time that `ps` takes

        published = correct(places, published, agent_starts=agent is not None)
    return [published[name] for name in sorted(published, key=lambda name: name.split("."))]


def row(places: Places, name: str) -> JsonRow | None:
    return next((each for each in rows(places) if each["name"] == name), None)


def notes(places: Places) -> dict[str, str]:
    """Remarks on the source: path → why it is ignored."""
    try:
        found: dict[str, str] = json.loads(places.notes.read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def checks(places: Places) -> dict[str, list[dict[str, Any]]]:
    """Name → its health checks and what each found last, as `health.as_json` has it. Only a daemon makes any."""
    if holder(places) is None:
        return {}
    from reconciler.agent import control  # asyncio is most of what `status` takes

    try:
        found: dict[str, list[dict[str, Any]]] = control.ask(places.control, {"op": "checks"}, timeout=_ANSWER_SECONDS)[
            "checks"
        ]
    except (OSError, ValueError, KeyError, ReconcilerError):
        return {}  # a command, or an agent that is just coming or going
    return found


def check_in_words(check: dict[str, Any]) -> str:
    name = f"{check['name']}: " if check["name"] else ""
    seen = f"{check['seen']} at {check['at']}" if check["seen"] is not None else "not made yet"
    row = f", {check['failures']} failures in a row" if check["failures"] else ""
    trouble = f"; it could not be made: {check['trouble']}" if check["trouble"] else ""
    return f"{check['role']} {name}{check['check']} -> {seen}{row}{trouble}"


def record(places: Places, name: str) -> dict[str, Any] | None:
    """The record as it is on disk; None when there is none. Raises ValueError when it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((places.records / name / "record.json").read_bytes())
    except FileNotFoundError:
        return None
    return found


def _published(places: Places) -> dict[str, JsonRow]:
    found = {}
    for file in _json_files(places.rows):
        try:
            found[file.stem] = json.loads(file.read_bytes())
        except (OSError, ValueError):
            continue  # gone meanwhile; a row is replaced by renaming, so it is never half-written
    return found


def _json_files(directory: Path) -> list[Path]:
    return [file for file in directory.glob("*.json") if not file.name.startswith(".")]
