"""What happened to each name, as typed events: the actions begun, and what differs between two rows. Pure.

    Acting     op, class        an action begins, with its cause        Status     from, to    its status changed
    Applied    generation, …    another version of its spec is in force Ready, NotReady
    Started    pid, restarts    a run began                             Destroyed              nothing of it is left
    Ended      exit             a run ended, and how                    Agent…, Source…        of no container
    Limitation, LimitationOver  isolator                                it ran into a limit, and goes on; no longer
    RolledBack revision         an earlier revision is asked for        RollbackEnded          what its file has is

Between two looks a name may go through more than one state: an event tells a difference that was seen, the row what
is the case. Nothing is decided on events, so one that is lost harms nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reconciler.loop.texts import signal_name, timestamp
from reconciler.states import EventType, Reason

if TYPE_CHECKING:  # reading verbs import this module and must not pay for pydantic
    from reconciler.loop.values import Action

JsonRow = Mapping[str, Any]
"""As `rows.as_json` makes it."""


@dataclass(frozen=True, slots=True)
class Event:
    """at: seconds since the epoch; name: None for the agent's own; details: JSON-able, by type as in the module."""

    at: float
    type: EventType
    name: str | None
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


def as_json(event: Event) -> dict[str, Any]:
    """The public form: a line of JSON."""
    head = {"at": timestamp(event.at), "name": event.name, "type": event.type.value, "message": event.message}
    return head | dict(event.details)


def acting(action: Action, at: float) -> Event:
    details = {"op": action.op.value, "class": action.change.value}
    return Event(at, EventType.ACTING, action.name, action.cause, details)


def rolled_back(name: str, revision: int, by: str, at: float) -> Event:
    who = f" by {by}" if by else ""
    return Event(at, EventType.ROLLED_BACK, name, f"to revision {revision}{who}", {"revision": revision})


def rollback_ended(name: str, why: str, at: float) -> Event:
    return Event(at, EventType.ROLLBACK_ENDED, name, why)


def source_changed(before: str, after: str, at: float) -> Event | None:
    """before, after: why what the source asks for is unknown, "" when it is known."""
    if bool(before) == bool(after):
        return None
    kind = EventType.SOURCE_UNKNOWN if after else EventType.SOURCE_KNOWN
    return Event(at, kind, None, after or f"it can be read again; it was unknown: {before}")


def between(before: JsonRow | None, after: JsonRow | None, at: float) -> Iterator[Event]:
    """What happened to a name from one row to the next, in the order in which it must have happened. None: no row."""
    if after is None:
        if before is not None:
            yield Event(at, EventType.DESTROYED, before["name"], f"gone; it was {before['status']}")
        return
    old: JsonRow = before or {}
    name = after["name"]
    if after["generation"] and after["generation"] != old.get("generation", 0):
        details = {key: after[key] for key in ("generation", "digest", "source")}
        text = f"generation {after['generation']} of {after['source']}, digest {after['digest'][:12]}"
        yield Event(at, EventType.APPLIED, name, text, details)
    if after["exit"] is not None and after["exit"] != old.get("exit"):
        yield Event(at, EventType.ENDED, name, _ending(after["exit"]), {"exit": after["exit"]})
    runs = after["pid"] is not None and after["startedAt"] is not None
    if runs and (after["pid"], after["startedAt"]) != (old.get("pid"), old.get("startedAt")):
        details = {"pid": after["pid"], "restarts": after["restarts"]}
        yield Event(at, EventType.STARTED, name, f"pid {after['pid']}", details)
    if after["status"] != old.get("status"):
        details = {"from": old.get("status"), "to": after["status"], "reason": after["reason"]}
        yield Event(at, EventType.STATUS, name, _status(after), details)
    elif bool(after["ready"]) != bool(old.get("ready")):
        kind = EventType.READY if after["ready"] else EventType.NOT_READY
        yield Event(at, kind, name, after["message"])
    if runs:
        yield from _limited(old.get("limitations", {}), after["limitations"], name, at)


def _limited(before: Mapping[str, str], after: Mapping[str, str], name: str, at: float) -> Iterator[Event]:
    """That there is one, once: its figures may change with each look."""
    for isolator in sorted(after.keys() - before.keys()):
        yield Event(at, EventType.LIMITATION, name, after[isolator], {"isolator": isolator})
    for isolator in sorted(before.keys() - after.keys()):
        yield Event(at, EventType.LIMITATION_OVER, name, f"over: {before[isolator]}", {"isolator": isolator})


def _status(row: JsonRow) -> str:
    return f"{row['status']}: {row['message']}" if row["message"] else str(row["status"])


def _ending(exit: Mapping[str, Any]) -> str:
    how = f"exited with code {exit['code']}"
    if exit["signal"] is not None:
        how = f"killed by {signal_name(exit['signal'])}"
    elif exit["code"] is None:
        how = "ended, its status is not known"
    told = exit["reason"] == Reason.EXITED or exit["signal"] is not None
    more = f": {exit['message']}" if exit["message"] and not told else ""
    return f"{how} ({exit['reason']}){more}"
