"""The fuse: how often in an hour one name may be started again after failures, whatever its backoff says. Pure.

Backoff answers failures in a row; a short `max`, or runs that fail just after `resetAfter`, could still cost a machine
thousands of starts a day. The failures of the last hour are part of the record, so that the bound survives the agent;
a changed spec is another matter and starts from none.
"""

from __future__ import annotations

from reconciler.loop.values import Life

HOUR = 3600.0
DEFAULT = 100
MOST = 1000
"""Failures that are remembered, and so the highest bound."""


def noted(failed_at: tuple[float, ...], now: float) -> tuple[float, ...]:
    """With one more failure, without those that no longer matter."""
    return (*(at for at in failed_at if at > now - HOUR), now)[-MOST:]


def next_try(life: Life, limit: int) -> tuple[float | None, bool]:
    """(not before this time, whether it is the fuse that says so). limit: 0 for none."""
    if life.next_try is None or not limit or len(life.failed_at) < limit:
        return life.next_try, False
    free = life.failed_at[-limit] + HOUR
    return (free, True) if free > life.next_try else (life.next_try, False)
