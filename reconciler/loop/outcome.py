"""When `apply` and `destroy` are over, and how it went. Pure.

converged      each is Running (ready, if it has readiness checks), Completed, Suspended or Ignored, as its file says
not converged  nothing more will happen by itself and something is not as its file says; or time is up
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from reconciler.loop.preview import complaints
from reconciler.loop.values import Desired, Plan, Row
from reconciler.states import Status

AS_DESIRED = frozenset({Status.RUNNING, Status.COMPLETED, Status.SUSPENDED, Status.IGNORED})
FOR_GOOD = frozenset({Status.FAILED, Status.INVALID, Status.BLOCKED, Status.CONFLICT, Status.HELD})
"""Will not change before someone changes a file, or approves."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`code`: the exit status. `rows`: those it was about, as they were at the end. `message`: why not 0."""

    code: int
    rows: tuple[Row, ...] = ()
    message: str = ""


def verdict(desired: Desired, plan: Plan, rows: Collection[Row], busy: Collection[str]) -> Outcome | None:
    """None: it goes on. `busy`: names a worker has in hand, and files being written."""
    if busy or plan.actions or not (desired.complete or desired.unknown_reason):
        return None
    if any(not _as_desired(row) and row.status not in FOR_GOOD for row in rows):
        return None
    wrong = [_line(row) for row in rows if row.status in FOR_GOOD]
    told = "\n".join(wrong)
    wrong += [message for message in complaints(desired) if message.partition(": ")[2] not in told]
    return Outcome(1 if wrong else 0, tuple(rows), "\n".join(wrong))


def out_of_time(rows: Collection[Row], seconds: float) -> Outcome:
    waiting = [_line(row) for row in rows if not _as_desired(row)]
    return Outcome(1, tuple(rows), "\n".join([f"not as desired after {seconds:g} s:", *waiting]))


def not_gone(rows: Collection[Row], names: Collection[str], seconds: float) -> Outcome:
    return _left(rows, names, f"not gone after {seconds:g} s:")


def not_stopped(rows: Collection[Row], names: Collection[str], seconds: float) -> Outcome:
    return _left(rows, names, f"not stopped after {seconds:g} s:")


def _left(rows: Collection[Row], names: Collection[str], what: str) -> Outcome:
    left = tuple(row for row in rows if row.name in names)
    return Outcome(1, left, "\n".join([what, *map(_line, left)]))


def _as_desired(row: Row) -> bool:
    return row.status in AS_DESIRED and (row.ready or row.status is not Status.RUNNING)


def _line(row: Row) -> str:
    return f"{row.name}: {row.status.value}" + (f": {row.message}" if row.message else "")
