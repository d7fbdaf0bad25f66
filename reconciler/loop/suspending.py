"""What is suspended: stopped, and kept stopped, by its spec or by command, alone or with what it is nested in. Pure.

Invariant: what a command suspends stays so until `resume`, whatever its spec says and whether or not it was destroyed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.loop.texts import place, timestamp
from reconciler.loop.values import Desired, Recorded, ancestors

MARK = "suspended"
"""The journal's kind of mark."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """By command: who, and when; "" and None where that can no longer be read."""

    by: str = ""
    at: float | None = None

    def details(self) -> dict[str, Any]:
        return {"by": self.by, "at": self.at}

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Suspension:
        """The mark alone suspends, so that a damaged one starts nothing."""
        by, at = details.get("by"), details.get("at")
        return cls(by if isinstance(by, str) else "", at if isinstance(at, int | float) else None)


def suspended(
    names: Iterable[str], desired: Desired, recorded: Recorded, by_command: Mapping[str, Suspension]
) -> dict[str, str]:
    """Those of the names that are suspended → why, as the rest of a sentence that begins with the name."""
    found = {}
    for name in names:
        for one in (name, *reversed(ancestors(name))):
            if why := _why(one, desired, recorded, by_command):
                found[name] = why if one == name else f"nested in {one}, which is {why}"
                break
    return found


def _why(name: str, desired: Desired, recorded: Recorded, by_command: Mapping[str, Suspension]) -> str:
    order = by_command.get(name)
    known = desired.containers.get(name) or recorded.records.get(name)
    if order is not None:
        who = f" by {order.by}" if order.by else " by command"
        when = f" at {timestamp(order.at)}" if order.at is not None else ""
        return f"suspended{who}{when}; `reconciler resume {name}` lets it run again"
    if known is not None and known.spec.suspend:
        return f"suspended by its spec ({place(known.origin)})"
    return ""


def forgotten(by_command: Mapping[str, Suspension], desired: Desired, known: Iterable[str]) -> frozenset[str]:
    """Names that no file mentions and of which there is nothing: a later container of that name starts afresh."""
    if not desired.complete:
        return frozenset()
    there = {*known, *desired.containers, *desired.refusals, *desired.elsewhere, *desired.held_names}
    return frozenset(by_command.keys() - there)
