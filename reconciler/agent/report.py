"""What reading verbs show: the agent's rows, or what is true without an agent. Standard library only, to be quick.

With a live agent its rows are the answer. Without one they are as old as the agent's death: each is corrected
by the checkpoints and the kernel (a process that is gone has ended, and nothing restarts it), and names
that have no row, because the machine was rebooted, come from the records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.agent.lock import holder
from reconciler.agent.paths import Places
from reconciler.loop.texts import exit_json, timestamp
from reconciler.runtime.containerizer import ContainerStatus
from reconciler.runtime.mesos.observing import observe_runs
from reconciler.states import Reason, Status

JsonRow = dict[str, Any]

_NO_AGENT = "no agent is running: nothing is restarted"
_RUNS_ANYWAY = frozenset({Status.RUNNING, Status.UNHEALTHY, Status.STALLED, Status.CONFLICT, Status.HELD})
_STANDS = frozenset({Status.INVALID, Status.BLOCKED, Status.CONFLICT, Status.HELD, Status.SUSPENDED, Status.IGNORED})


def rows(places: Places) -> list[JsonRow]:
    """Parents before their nested; [] for a root that does not exist."""
    published = _published(places)
    if holder(places) is None:
        observed = observe_runs(places.runtime_dir)
        published = {**_recorded(places, known=published), **published}
        for name in observed:
            published.setdefault(name, _row(name))
        published = {name: corrected(row, observed.get(name)) for name, row in published.items()}
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


def record(places: Places, name: str) -> dict[str, Any] | None:
    """The record as it is on disk; None when there is none. Raises ValueError when it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((places.records / name / "record.json").read_bytes())
    except FileNotFoundError:
        return None
    return found


def corrected(row: JsonRow, seen: ContainerStatus | None) -> JsonRow:
    """A row that a dead agent left, put right by what was observed. Pure."""
    status = Status(row["status"])
    if seen is not None and seen.state is not None:
        shown = status if status in _RUNS_ANYWAY else Status.RUNNING
        started = timestamp(seen.started_at) if seen.started_at is not None else row["startedAt"]
        return {
            **row,
            "status": shown.value,
            "state": seen.state.value,
            "pid": seen.pid,
            "ready": shown is Status.RUNNING,
            "startedAt": started,
            "namespaces": dict(seen.namespaces),
            "cgroups": dict(seen.cgroups),
        }
    ended = exit_json(seen.termination) if seen is not None and seen.termination is not None else row["exit"]
    down = {**row, "state": None, "pid": None, "ready": False, "nextTry": None, "exit": ended}
    if status in _STANDS:
        return down
    if ended is None:
        return {**down, "status": Status.PENDING.value, "message": _NO_AGENT}
    fine = (ended["code"] == 0 and ended["signal"] is None) or ended["reason"] == Reason.PARENT_ENDED.value
    verdict = Status.COMPLETED if fine else Status.FAILED
    said = row["message"] if status is verdict else f"{ended['message'] or ended['reason']}; {_NO_AGENT}"
    return {**down, "status": verdict.value, "reason": ended["reason"], "message": said}


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


def _recorded(places: Places, known: Mapping[str, JsonRow]) -> dict[str, JsonRow]:
    """Rows for what was applied and has none: the runtime directory did not survive a reboot."""
    found = {}
    for file in places.records.glob("*/record.json"):
        name = file.parent.name
        if name in known:
            continue
        try:
            data = json.loads(file.read_bytes())
            found[name] = _row(
                name,
                type=data["spec"].get("type", "mesos"),
                restarts=max(data["life"]["starts"] - 1, 0),
                generation=data["generation"],
                digest=data["digest"],
                source=data["origin"]["file"],
                exit=_recorded_exit(data["life"]["exit"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            found[name] = _row(name, status=Status.HELD.value, reason=Reason.RECORD_UNREADABLE.value)
            found[name]["message"] = f"{file} cannot be read: {error}"
    return found


def _recorded_exit(exit: dict[str, Any] | None) -> dict[str, Any] | None:
    if exit is None:
        return None
    shown = {key: exit[key] for key in ("code", "signal", "reason", "message")}
    return {**shown, "oomKilled": exit["oom_killed"], "at": timestamp(exit["at"])}


def _row(name: str, **known: Any) -> JsonRow:
    """A row of which nothing more is known."""
    return {
        "name": name,
        "parent": name.rpartition(".")[0] or None,
        "type": "mesos",
        "status": Status.PENDING.value,
        "state": None,
        "ready": False,
        "pid": None,
        "restarts": 0,
        "generation": 0,
        "digest": "",
        "source": "",
        "message": "",
        "reason": None,
        "startedAt": None,
        "exit": None,
        "nextTry": None,
        "namespaces": {},
        "cgroups": {},
        "sandbox": "",
        **known,
    }
