"""What a run's health checks say of it: results in, verdict out. Pure.

    startup     until each has succeeded once, no other check is made, and the container is not ready
    readiness   not ready before its first success, nor after `consecutiveFailures` in a row
    liveness    `consecutiveFailures` in a row end the run; so they do of a startup check

As Mesos has it (docs/health-checks.md), failures within `gracePeriod` of the beginning don't count, unless the check has
succeeded before. The beginning is the run's, or when this agent, or this version of the check, began to look: nobody
is judged by what was not seen. A check that could not be made says nothing either way. Nothing here is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reconciler.loop.texts import times
from reconciler.runtime.containerizer import Finding
from reconciler.spec.policies import HealthCheck


@dataclass(frozen=True, slots=True)
class Watch:
    """One check of one run. since: when it began to be watched; last, at: what it found last, and when; failures: in a
    row, those that count; passed: it has succeeded; trouble: why it could not be made, the last time."""

    check: HealthCheck
    since: float
    last: Finding | None = None
    at: float | None = None
    failures: int = 0
    passed: bool = False
    trouble: str = ""

    @property
    def failing(self) -> bool:
        return self.failures >= self.check.consecutive_failures

    @property
    def title(self) -> str:
        name = f"{self.check.name}, " if self.check.name else ""
        return (
            f"{self.check.role} check {name}{self.check.what}" if name else f"{self.check.role} check {self.check.what}"
        )


@dataclass(frozen=True, slots=True)
class Health:
    """ready: it serves. failed: why the run has to end, "" when it has not to. failing: what it fails, whatever the
    role, or ""; waiting: what it has yet to succeed in before it is ready, or ""."""

    ready: bool = True
    failed: str = ""
    failing: str = ""
    waiting: str = ""


def watched(checks: Sequence[HealthCheck], before: Sequence[Watch], now: float) -> tuple[Watch, ...]:
    """Those checks that are as they were go on, the others begin."""
    known = {watch.check: watch for watch in before}
    return tuple(known.get(check) or Watch(check, now) for check in checks)


def heard(watch: Watch, finding: Finding, at: float) -> Watch:
    """With one more result."""
    if finding.healthy:
        return replace(watch, last=finding, at=at, failures=0, passed=True, trouble="")
    pardoned = not watch.passed and at < watch.since + watch.check.grace_period
    return replace(watch, last=finding, at=at, failures=watch.failures + (not pardoned), trouble="")


def unheard(watch: Watch, why: str, at: float) -> Watch:
    """It could not be made."""
    return replace(watch, trouble=why, at=at)


def started(watches: Sequence[Watch]) -> bool:
    """Each startup check has succeeded, so that the others may be made."""
    return all(watch.passed for watch in watches if watch.check.role == "startup")


def judge(watches: Sequence[Watch]) -> Health:
    failing = [watch for watch in watches if watch.failing]
    fatal = [watch for watch in failing if watch.check.role != "readiness"]
    before_ready = [watch for watch in watches if watch.check.role != "liveness" and not watch.passed]
    unready = [watch for watch in failing if watch.check.role == "readiness"]
    return Health(
        ready=not before_ready and not unready and not fatal,
        failed=_told(fatal),
        failing=_told(failing),
        waiting=_first(before_ready) if not failing else "",
    )


def _told(failing: Sequence[Watch]) -> str:
    return "; ".join(
        f"{watch.title} -> {watch.last.seen if watch.last else ''}, {times(watch.check.consecutive_failures)} in a row"
        for watch in failing
    )


def _first(waiting: Sequence[Watch]) -> str:
    first = next((watch for watch in waiting if watch.check.role == "startup"), waiting[0]) if waiting else None
    return f"its {first.title} has yet to succeed" if first is not None else ""
