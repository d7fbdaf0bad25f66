"""The messages between the agent and an executor: a JSON object per line, `type` first of all. Pure.

    executor ─▶ SUBSCRIBE {tasks, updates}    UPDATE {task_id, uuid, state, code?, signal?, message?}
    agent    ─▶ SUBSCRIBED  LAUNCH {task}  KILL {task_id, kill_policy}  SHUTDOWN  ACKNOWLEDGED {task_id, uuid}  ERROR

After Mesos's v1 executor API (executor.proto). Lines in place of its RecordIO: a JSON text needs no raw newline, so a
length before it says nothing new, and every language has `readline`. What an executor says is a container's word: it is
bounded, checked, and its text cleaned before anybody shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

LONGEST = 256 * 1024
"""Bytes of a line from an executor."""
_MOST = 1024  # tasks or updates in one SUBSCRIBE
_LONGEST_ID, _LONGEST_TEXT = 256, 500

Message = dict[str, Any]


class BadMessage(ValueError):
    """What cannot be understood; the text is for whoever writes the executor."""


class TaskState(StrEnum):
    """STAGING: not heard of yet, and never said by an executor. The last three are final."""

    STAGING = "STAGING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    KILLING = "KILLING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def final(self) -> bool:
        return self in (TaskState.FINISHED, TaskState.FAILED, TaskState.KILLED)


@dataclass(frozen=True, slots=True)
class Update:
    """code, signal: how the task's process ended, where it had one and has."""

    task_id: str
    uuid: str
    state: TaskState
    code: int | None = None
    signal: int | None = None
    message: str = ""

    def as_json(self) -> Message:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """tasks: ids of all that it has and that have not ended; updates: those that were not acknowledged."""

    tasks: tuple[str, ...] = ()
    updates: tuple[Update, ...] = ()


def read(line: bytes) -> Subscribe | Update:
    """Raises BadMessage."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadMessage("is no JSON object")
    match found.get("type"):
        case "SUBSCRIBE":
            tasks, updates = _listed(found, "tasks"), _listed(found, "updates")
            return Subscribe(tuple(_id(each, "tasks") for each in tasks), tuple(map(_update, updates)))
        case "UPDATE":
            return _update(found)
        case kind:
            raise BadMessage(f"has the type {str(kind)[:40]!r}, which is none of SUBSCRIBE and UPDATE")


def write(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, **fields}).encode() + b"\n"


def acknowledged(update: Update) -> bytes:
    return write("ACKNOWLEDGED", task_id=update.task_id, uuid=update.uuid)


def clean(text: str) -> str:
    """One line of printable characters, not too many."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST_TEXT]).strip()


def _update(found: Any) -> Update:
    if not isinstance(found, dict):
        raise BadMessage("has an update that is no JSON object")
    try:
        state = TaskState(str(found.get("state")))
    except ValueError:
        state = TaskState.STAGING
    if state is TaskState.STAGING:
        said = ", ".join(each for each in TaskState if each is not TaskState.STAGING)
        raise BadMessage(f"has the state {str(found.get('state'))[:40]!r}; there are {said}")
    message = found.get("message") or ""
    if not isinstance(message, str):
        raise BadMessage("has a message that is no string")
    return Update(
        _id(found.get("task_id"), "task_id"),
        _id(found.get("uuid"), "uuid"),
        state,
        _number(found, "code", 255),
        _number(found, "signal", 64),
        clean(message),
    )


def _listed(found: Mapping[str, Any], field: str) -> list[Any]:
    value = found.get(field, [])
    if not isinstance(value, list) or len(value) > _MOST:
        raise BadMessage(f"has {field} that are no list of at most {_MOST}")
    return value


def _id(value: Any, field: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID:
        raise BadMessage(f"needs {field} of 1 to {_LONGEST_ID} characters")
    return value


def _number(found: Mapping[str, Any], field: str, highest: int) -> int | None:
    value = found.get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise BadMessage(f"has a {field} that is no whole number up to {highest}")
    return value
