"""What a run's health checks say of it: results in, verdict out. Pure.

    startup     until each has succeeded once, no other check is made, and the container is not ready
    readiness   not ready before its first success, nor after `consecutiveFailures` in a row
    liveness    `consecutiveFailures` in a row end the run, as a failure; so do those of a startup check

As in Mesos, failures within `gracePeriod` of the beginning don't count unless the check has succeeded before. The
beginning is the run's, or when this agent, or this version of the check, began to look: nobody is judged by what was
not seen. A check that could not be made says nothing either way. Only readiness outlives the agent, as a belief.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from reconciler.loop.texts import timestamp
from reconciler.runtime.containerizer import Finding
from reconciler.spec.policies import HealthCheck


@dataclass(frozen=True, slots=True)
class Watch:
    """One check of one run. since: when it began to be watched; believed: an earlier agent saw it succeed in this run;
    last, at: what it found, and when; failures: in a row, those that count; trouble: why it could not be made."""

    check: HealthCheck
    since: float
    believed: bool = False
    last: Finding | None = None
    at: float | None = None
    failures: int = 0
    passed: bool = False
    trouble: str = ""

    @property
    def failing(self) -> bool:
        return self.failures >= self.check.consecutive_failures

    @property
    def good(self) -> bool:
        """It has succeeded in this run, whoever saw that."""
        return self.passed or self.believed

    @property
    def title(self) -> str:
        check = self.check
        return f"{check.role} check {check.name}: {check.what}" if check.name else f"{check.role} check {check.what}"


@dataclass(frozen=True, slots=True)
class Health:
    """ready: it serves; settled: that was seen by this agent. failed: why the run has to end, or ""; failing: what it
    fails, whatever the role, or ""; waiting: what has yet to succeed before it is ready, or ""."""

    ready: bool = True
    settled: bool = True
    failed: str = ""
    failing: str = ""
    waiting: str = ""


def watched(
    checks: Sequence[HealthCheck], before: Sequence[Watch], now: float, *, believed: bool = False
) -> tuple[Watch, ...]:
    """Those checks that are as they were go on, the others begin. believed: an earlier agent found this run ready."""
    known = {watch.check: watch for watch in before}
    return tuple(known.get(check) or Watch(check, now, believed) for check in checks)


def heard(watch: Watch, finding: Finding, at: float) -> Watch:
    """With one more result."""
    if finding.healthy:
        return replace(watch, last=finding, at=at, failures=0, passed=True, trouble="")
    pardoned = not watch.passed and at < watch.since + watch.check.grace_period
    return replace(watch, last=finding, at=at, failures=watch.failures + (not pardoned), trouble="")


def unheard(watch: Watch, why: str, at: float) -> Watch:
    """It could not be made."""
    return replace(watch, trouble=why, at=at)


def due(watch: Watch, watches: Sequence[Watch]) -> bool:
    """Whether it is its turn: startup checks until they have succeeded, the others from then on."""
    if watch.check.role == "startup":
        return not watch.good
    return all(other.good for other in watches if other.check.role == "startup")


def judge(watches: Sequence[Watch]) -> Health:
    failing = [watch for watch in watches if watch.failing]
    fatal = [watch for watch in failing if watch.check.role != "readiness"]
    gates = [watch for role in ("startup", "readiness") for watch in watches if watch.check.role == role]
    closed = [watch for watch in gates if not watch.good]
    return Health(
        ready=not closed and not fatal and not any(watch.failing for watch in gates),
        settled=all(watch.last is not None for watch in gates if due(watch, watches)),
        failed=_told(fatal),
        failing=_told(failing),
        waiting=_awaited(closed[0]) if closed and not failing else "",
    )


def _told(failing: Sequence[Watch]) -> str:
    return "; ".join(f"{watch.title} -> {_seen(watch)}{_times(watch)}" for watch in failing)


def _awaited(watch: Watch) -> str:
    so_far = watch.trouble or (watch.last.seen if watch.last else "")
    return f"its {watch.title} has yet to succeed" + (f" ({so_far})" if so_far else "")


def _seen(watch: Watch) -> str:
    return watch.last.seen if watch.last else "nothing yet"


def _times(watch: Watch) -> str:
    """The number that counts, not how many there were: a row does not change because time passes."""
    count = watch.check.consecutive_failures
    return f", {count} times in a row" if count > 1 else ""


def as_json(watch: Watch) -> dict[str, Any]:
    """The public form: what `status` and `why` show of a check."""
    return {
        "name": watch.check.name,
        "role": watch.check.role,
        "check": watch.check.what,
        "healthy": watch.last.healthy if watch.last else None,
        "seen": watch.last.seen if watch.last else None,
        "at": timestamp(watch.at) if watch.at is not None else None,
        "failures": watch.failures,
        "trouble": watch.trouble,
    }
