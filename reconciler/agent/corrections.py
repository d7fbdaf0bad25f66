"""Rows that a dead agent left, put right by what is true now.

A process that is gone has ended, and nothing restarts it; names that have no row, because the machine was
rebooted, come from the records. Changes nothing. Standard library only, as all of what `ps` needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from reconciler.agent import marks
from reconciler.agent.lock import known_owner
from reconciler.agent.paths import Places, sandbox_of
from reconciler.loop.texts import ending, exit_json, rolled_back, timestamp
from reconciler.runtime.containerizer import ENDED_AS_FAILED, ContainerStatus, Termination
from reconciler.runtime.observing import observe
from reconciler.states import ContainerState, Reason, Status

JsonRow = dict[str, Any]

NO_AGENT = "no agent is running: nothing is restarted"
ENDING = "it was told to end; the next agent sees to it"
AGENT_STARTS = "the agent is just starting"
_RUNS_ANYWAY = frozenset({Status.RUNNING, Status.UNHEALTHY, Status.STALLED, Status.CONFLICT, Status.HELD})
_STANDS = frozenset({Status.INVALID, Status.BLOCKED, Status.CONFLICT, Status.HELD, Status.SUSPENDED, Status.IGNORED})


def correct(places: Places, published: Mapping[str, JsonRow], *, agent_starts: bool) -> dict[str, JsonRow]:
    """A row for every name that there is."""
    observed, unknown = observe(places.root, places.runtime_dir, known_owner(places) or "")
    rows = {**_recorded(places, known=published), **published}
    for name in observed:
        rows.setdefault(name, _row(name))
    why = AGENT_STARTS if agent_starts else NO_AGENT
    back = marks.read(places.marks, "rolledback")
    return {
        name: _rolled_back(
            _unknown(row, unknown[name]) if name in unknown else corrected(row, observed.get(name), why),
            back.get(name.partition(".")[0]),
        )
        for name, row in rows.items()
    }


def _rolled_back(row: JsonRow, mark: Mapping[str, Any] | None) -> JsonRow:
    """Said, too, of what was rolled back since the row was made."""
    if mark is None or "to" not in mark or (said := rolled_back(mark["to"], row["source"])) in row["message"]:
        return row
    return {**row, "message": "; ".join(filter(None, (row["message"], said)))}


def _unknown(row: JsonRow, why: str) -> JsonRow:
    """What cannot be observed is not what it was, nor gone."""
    known = {"status": Status.STALLED.value, "reason": Reason.STATE_UNKNOWN.value, "message": why}
    return {**row, **known, "state": None, "pid": None, "ready": False}


def corrected(row: JsonRow, seen: ContainerStatus | None, why: str = NO_AGENT) -> JsonRow:
    """A row that a dead agent left, put right by what was observed. Pure."""
    status = Status(row["status"])
    if seen is not None and seen.state is not None:
        return _running(row, status, seen)
    ended = exit_json(seen.termination) if seen is not None and seen.termination is not None else row["exit"]
    down = {**row, "state": None, "pid": None, "ready": False, "nextTry": None, "exit": ended}
    if status in _STANDS:
        return down
    if ended is None or ended["reason"] == Reason.DESTROYED.value:  # we ended it to start it again
        return {**down, "status": Status.PENDING.value, "message": why}
    well = ended["code"] == 0 and ended["signal"] is None and ended["reason"] not in ENDED_AS_FAILED
    fine = well or ended["reason"] == Reason.PARENT_ENDED.value
    verdict = Status.COMPLETED if fine else Status.FAILED
    said = row["message"] if status is verdict else f"{_in_words(ended)}; {why}"
    return {**down, "status": verdict.value, "reason": ended["reason"], "message": said}


def _running(row: JsonRow, status: Status, seen: ContainerStatus) -> JsonRow:
    ending = seen.state is ContainerState.DESTROYING
    shown = Status.STOPPING if ending else status if status in _RUNS_ANYWAY else Status.RUNNING
    started = timestamp(seen.started_at) if seen.started_at is not None else row["startedAt"]
    return {
        **row,
        "status": shown.value,
        "message": ENDING if ending else row["message"],
        "state": seen.state.value if seen.state is not None else None,
        "pid": seen.pid,
        "ready": row["ready"] if status in _RUNS_ANYWAY else shown is Status.RUNNING,
        "startedAt": started,
        "namespaces": dict(seen.namespaces),
        "cgroups": dict(seen.cgroups),
    }


def _in_words(ended: Mapping[str, Any]) -> str:
    at = datetime.fromisoformat(ended["at"]).timestamp()
    reason = Reason(ended["reason"])
    return ending(Termination(ended["code"], ended["signal"], reason, at, ended["message"], ended["oomKilled"]))


def _recorded(places: Places, known: Mapping[str, JsonRow]) -> dict[str, JsonRow]:
    """Rows for what was applied and has none: the runtime directory did not survive a reboot."""
    found = {}
    suspended = marks.read(places.marks, "suspended")
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
                commit=_recorded_commit(data["origin"]),
                exit=_recorded_exit(data["life"]),
                sandbox=str(sandbox_of(places, name)),
            )
            if data["spec"].get("suspend") or any(one in suspended for one in _with_ancestors(name)):
                found[name] |= {"status": Status.SUSPENDED.value, "reason": Reason.SUSPENDED.value}
                found[name]["message"] = "suspended when an agent last ran"
        except (OSError, ValueError, KeyError, TypeError) as error:
            found[name] = _row(name, status=Status.HELD.value, reason=Reason.RECORD_UNREADABLE.value)
            found[name]["message"] = f"{file} cannot be read: {error}"
    return found


def _with_ancestors(name: str) -> tuple[str, ...]:
    labels = name.split(".")
    return tuple(".".join(labels[:end]) for end in range(1, len(labels) + 1))


def _recorded_commit(origin: Mapping[str, Any]) -> JsonRow | None:
    commit = origin.get("commit")
    return {**commit, "time": timestamp(commit["time"])} if commit else None


def _recorded_exit(life: Mapping[str, Any]) -> JsonRow | None:
    """Of the last run. One that was under way, and of which nothing is left, ended with the machine."""
    if life["started_at"] is not None:
        return exit_json(Termination(None, None, Reason.EXIT_STATUS_LOST, life["started_at"]))
    if life["exit"] is None:
        return None
    return exit_json(Termination(**{**life["exit"], "reason": Reason(life["exit"]["reason"])}))


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
        "commit": None,
        "message": "",
        "reason": None,
        "startedAt": None,
        "exit": None,
        "nextTry": None,
        "namespaces": {},
        "cgroups": {},
        "limitations": {},
        "sandbox": "",
        **known,
    }
