"""Actions that are done again and again and change nothing: named, and tried ever more rarely. Pure.

A worker that succeeds, and after which all that is observed and recorded is as before, would be sent out again at
once, for ever. After `LIMIT` such rounds it becomes a trouble (reason NoEffect), which backs off, shows as `Stalled`,
and is forgotten as soon as anything differs, a changed spec first of all.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.loop import backoff
from reconciler.loop.life import OURS
from reconciler.loop.values import Action, Record, Trouble
from reconciler.runtime.containerizer import ContainerStatus
from reconciler.states import Reason

LIMIT = 3

Sight = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """An action that was begun `times` times in a row with the same sight of its name."""

    goal: str
    sight: Sight
    times: int


def sight(record: Record | None, seen: ContainerStatus | None, drift: str = "") -> Sight:
    """What an action could change. Not the run itself: another process that is as wrong as the last is no effect.
    How a run ended by itself is one, and has a backoff of its own."""
    life = record.life if record else None
    exit = life.exit if life and life.exit and life.exit.reason not in OURS else None
    known = (record.digest, record.deleting, record.origin, life.finished) if record and life else None
    return (known, exit, (seen.state, seen.digest) if seen else None, drift)


def begun(before: Round | None, action: Action, now: Sight) -> Round:
    same = before is not None and (before.goal, before.sight) == (action.goal, now)
    return Round(action.goal, now, before.times + 1 if before is not None and same else 1)


def stalled(this: Round, action: Action, now: float) -> Trouble | None:
    """For an action that was done; None as long as it may have had its effect."""
    if this.times < LIMIT:
        return None
    wait = backoff.delay(backoff.TROUBLE, this.times, backoff.jitter(action.name, this.times))
    message = f"{action.op.value} was done {this.times} times and changed nothing ({action.cause})"
    return Trouble(action.goal, Reason.NO_EFFECT, message, now, this.times, now + wait)
