"""What `ps` says of each name: the status of the closed vocabulary, and a message that says why and what next.

One row per name, whatever is known of it. Invariants: a row is a function of facts, not of the moment (its
message names absolute times), so an unchanged world writes no row; the last good version stays Running
under a bad file, with the error beside it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.loop import fuse
from reconciler.loop.health import Health
from reconciler.loop.suspending import Suspension, suspended
from reconciler.loop.texts import commit_json, ending, exit_json, span, timestamp
from reconciler.loop.values import (
    Action,
    Desired,
    Observed,
    Op,
    Plan,
    Record,
    Recorded,
    Refusal,
    Row,
    Trouble,
    Wait,
    over,
)
from reconciler.runtime.containerizer import ContainerStatus
from reconciler.spec.model import ContainerSpec
from reconciler.states import ContainerState, Reason, Status


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything rows are made of. `busy`: what a worker is doing to a name now; `pulls`: how far with an image."""

    desired: Desired
    recorded: Recorded
    observed: Observed
    plan: Plan
    busy: Mapping[str, Op]
    troubles: Mapping[str, Trouble]
    sandbox: Callable[[str], Path]
    by_command: Mapping[str, Suspension] = field(default_factory=dict)
    restarts_per_hour: int = fuse.DEFAULT
    pulls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Verdict:
    status: Status
    message: str = ""
    reason: Reason | None = None
    next_try: float | None = None


_NEVER = frozenset({Status.FAILED, Status.BLOCKED, Status.INVALID, Status.HELD, Status.CONFLICT})
_NEVER |= {Status.SUSPENDED, Status.IGNORED}
"""What waits for one of these waits until someone does something about it."""


def rows(facts: Facts) -> dict[str, Row]:
    """By name, parents first."""
    maker = _Maker(facts)
    return {name: maker.row(name) for name in sorted(maker.names(), key=lambda name: name.split("."))}


class _Maker:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._actions: Mapping[str, Action] = {action.name: action for action in facts.plan.actions}
        self._holds = {hold.name: hold for hold in facts.plan.holds}
        self._waits = {wait.name: wait for wait in facts.plan.waits}
        self._suspended = suspended(self.names(), facts.desired, facts.recorded, facts.by_command)
        self._verdicts: dict[str, _Verdict] = {}

    def names(self) -> Set[str]:
        facts = self._facts
        return {
            *facts.desired.containers,
            *facts.desired.refusals,
            *facts.desired.elsewhere,
            *facts.recorded.records,
            *facts.recorded.unreadable,
            *facts.observed.containers,
            *facts.observed.unknown,
        }

    def row(self, name: str) -> Row:
        facts = self._facts
        record, want = facts.recorded.records.get(name), facts.desired.containers.get(name)
        refusal, seen = facts.desired.refusals.get(name), facts.observed.containers.get(name)
        verdict = self._verdict(name)
        spec = record.spec if record else want.spec if want else None
        mention = refusal or facts.desired.elsewhere.get(name)
        origin = want.origin if want else record.origin if record else mention.origin if mention else None
        life = record.life if record else None
        exit = life.exit if life else seen.termination if seen else None
        if facts.busy.get(name) is Op.FAIL:
            exit = None  # it is counted already, but has yet to end
        return Row(
            name=name,
            parent=name.rpartition(".")[0] or None,
            type=spec.type if spec else seen.containerizer if seen else "mesos",
            status=verdict.status,
            state=seen.state if seen else self._providing(name, spec),
            ready=verdict.status is Status.RUNNING and facts.observed.ready(name),
            pid=seen.pid if seen and not over(seen) else None,
            restarts=max(life.starts - 1, 0) if life else 0,
            generation=record.generation if record else 0,
            digest=record.digest if record else want.digest if want else seen.digest if seen else "",
            source=origin.file if origin else "",
            commit=(record.origin if record else origin).commit if origin else None,
            message=self._message(name, verdict, refusal, record, seen),
            reason=verdict.reason,
            started_at=(seen.started_at if seen else None) or (life.started_at if life else None),
            exit=exit,
            next_try=verdict.next_try,
            namespaces=seen.namespaces if seen else {},
            cgroups=seen.cgroups if seen else {},
            limitations=seen.limitations if seen else {},
            sandbox=str(facts.sandbox(name)) if record else "",
        )

    def _providing(self, name: str, spec: ContainerSpec | None) -> ContainerState | None:
        """Nothing of it is there yet but the work on its image."""
        if spec is None or name not in self._facts.pulls:
            return None
        return ContainerState.PULLING if spec.type == "docker" else ContainerState.PROVISIONING

    def _message(
        self,
        name: str,
        verdict: _Verdict,
        refusal: Refusal | None,
        record: Record | None,
        seen: ContainerStatus | None,
    ) -> str:
        """The verdict's own, then what its end is stuck at, what is wrong with the file, and with the source."""
        parts = [verdict.message]
        if seen is not None and seen.termination is not None and seen.message not in verdict.message:
            parts.append(seen.message)
        if refusal is not None and refusal.message not in parts:
            parts.append(refusal.message)
        facts = self._facts
        if (back := facts.desired.rolled_back.get(name.partition(".")[0])) is not None:
            parts.append(back)
        own = record is not None and record.origin.source == facts.desired.source
        if refusal is None and own and record is not None and record.origin.file in facts.desired.errors:
            parts.append(facts.desired.errors[record.origin.file])
        if own and facts.desired.unknown_reason:
            parts.append(f"its source is unknown: {facts.desired.unknown_reason}")
        return "; ".join(part for part in parts if part)

    def _verdict(self, name: str) -> _Verdict:
        if name not in self._verdicts:
            self._verdicts[name] = self._judge(name)
        return self._verdicts[name]

    def _judge(self, name: str) -> _Verdict:
        facts = self._facts
        record, seen = facts.recorded.records.get(name), facts.observed.containers.get(name)
        refusal, trouble = facts.desired.refusals.get(name), facts.troubles.get(name)
        hold = self._holds.get(name)
        if refusal is not None and refusal.reason is Reason.OTHER_SOURCE:
            return _Verdict(refusal.status, refusal.message, refusal.reason)
        if hold is not None and hold.reason is not Reason.SOURCE_UNKNOWN:
            running = hold.reason is Reason.RECORD_UNREADABLE and seen is not None and seen.running
            stalled = hold.reason is Reason.STATE_UNKNOWN
            status = Status.RUNNING if running else Status.STALLED if stalled else Status.HELD
            return _Verdict(status, hold.message, hold.reason)
        op = facts.busy.get(name) or self._planned(name)
        if op is Op.DESTROY or (record is not None and record.deleting):
            return self._leaving(trouble, self._actions.get(name))
        if trouble is not None and _stuck(trouble):
            return _Verdict(Status.STALLED, _again(trouble), trouble.reason, trouble.next_try)
        pull = facts.pulls.get(name)
        if op is not None and (op.starts or op.ends) and not (pull and seen is not None and seen.running):
            return _Verdict(Status.PULLING, pull) if pull else self._under_way(name, op, seen, trouble)
        if seen is not None and seen.running:
            return self._running(name, record, seen, trouble)
        if name in self._suspended:
            fresh = record is not None and record.generation > 1 and record.life.starts == 0
            changed = (
                f"; its spec has changed: generation {record.generation} has not run yet" if record and fresh else ""
            )
            return _Verdict(Status.SUSPENDED, self._suspended[name] + changed, Reason.SUSPENDED)
        return self._down(name, record, refusal, trouble)

    def _running(self, name: str, record: Record | None, seen: ContainerStatus, trouble: Trouble | None) -> _Verdict:
        kept, wait = self._facts.desired.kept.get(name), self._waits.get(name)
        parts = [kept.message if kept else "", _beside_running(record, seen, trouble)]
        if wait is not None:
            parts.append(f"its new version {self._waiting_for(wait)[1]}")
        if (pull := self._facts.pulls.get(name)) is not None:
            parts.append(f"its new version waits for its image: {pull}")
        reason = trouble.reason if trouble else kept.reason if kept else None
        health = self._facts.observed.health.get(name, Health())
        if health.failing:
            parts.insert(0, health.failing)
            return _Verdict(Status.UNHEALTHY, "; ".join(part for part in parts if part), Reason.UNHEALTHY)
        if not seen.begun:
            return _Verdict(Status.STARTING, "; ".join(part for part in parts if part), reason)
        if health.waiting:
            parts.insert(0, f"not ready: {health.waiting}")
        return _Verdict(Status.RUNNING, "; ".join(part for part in parts if part), reason)

    def _waiting_for(self, wait: Wait) -> tuple[Status, str, float | None]:
        """Whether it may yet come, and what it waits for. Blocked: not before someone does something about it."""
        text = f"waits for {wait.on} to be {wait.condition}"
        if wait.circle:
            return Status.BLOCKED, f"{text}, which is a circle: {' → '.join(wait.circle)}", None
        if not self._exists(wait.on):
            return Status.BLOCKED, f"{text}: no file defines it", None
        other = self._verdict(wait.on)
        never = other.status in _NEVER or (other.status is Status.COMPLETED and wait.condition == "Ready")
        not_ready = " and not ready" if other.status is Status.RUNNING and wait.condition == "Ready" else ""
        text += f", which is {other.status.value}{not_ready}"
        return Status.BLOCKED if never else Status.PENDING, text, other.next_try

    def _planned(self, name: str) -> Op | None:
        action = self._actions.get(name)
        return action.op if action is not None else None

    def _leaving(self, trouble: Trouble | None, action: Action | None) -> _Verdict:
        if trouble is not None and trouble.goal.startswith("destroy"):
            return _Verdict(Status.STALLED, _again(trouble), trouble.reason, trouble.next_try)
        return _Verdict(Status.STOPPING, action.cause if action else "")

    def _under_way(self, name: str, op: Op, seen: ContainerStatus | None, trouble: Trouble | None) -> _Verdict:
        planned = self._actions.get(name)
        action = planned if planned is not None and planned.op is op else None
        note = (seen.message if seen else "") or (action.cause if action else "")
        if seen is not None and seen.state is ContainerState.PULLING:
            return _Verdict(Status.PULLING, note)
        if op.ends or (seen is not None and seen.state is ContainerState.DESTROYING):
            return _Verdict(Status.STOPPING, note)
        waiting = name not in self._facts.busy
        status = Status.PENDING if waiting else Status.STARTING
        if trouble is not None and seen is None:  # an attempt may take its time, too
            return _Verdict(status, f"{note}; before that: {trouble.message}", trouble.reason)
        return _Verdict(status, note)

    # -- what does not run, and nothing is being done about it now ------------------------------------

    def _down(self, name: str, record: Record | None, refusal: Refusal | None, trouble: Trouble | None) -> _Verdict:
        ran = record is not None and record.life.starts > 0
        if refusal is not None and refusal.reason is not Reason.DUPLICATE_NAME and not ran:
            return _Verdict(refusal.status, "", refusal.reason)
        if trouble is not None:
            if trouble.terminal:
                return _Verdict(
                    Status.BLOCKED, f"{trouble.message}; changing its spec lets it try again", trouble.reason
                )
            return _Verdict(Status.PENDING, _again(trouble), trouble.reason, trouble.next_try)
        if (other := self._facts.desired.elsewhere.get(name)) is not None:
            return _Verdict(other.status, other.message, other.reason)
        if record is not None and record.life.finished:
            return _finished(record)
        if (wait := self._waits.get(name)) is not None:
            status, message, next_try = self._waiting_for(wait)
            return _Verdict(status, message, Reason.DEPENDENCY_NOT_MET, next_try)
        parent = name.rpartition(".")[0]
        if parent and not self._exists(parent):
            message = f"its parent {parent} does not exist: no file defines it"
            return _Verdict(Status.BLOCKED, message, Reason.PARENT_NOT_RUNNING)
        above = self._verdict(parent) if parent else None
        if above is not None and above.status not in (Status.RUNNING, Status.UNHEALTHY):
            return self._below(parent, above)
        return _waiting(record, self._facts.restarts_per_hour)

    def _exists(self, name: str) -> bool:
        facts = self._facts
        asked = (facts.desired.containers, facts.desired.refusals, facts.desired.elsewhere)
        known = (*asked, facts.recorded.records, facts.recorded.unreadable)
        return any(name in some for some in (*known, facts.observed.containers, facts.observed.unknown))

    def _below(self, parent: str, above: _Verdict) -> _Verdict:
        if above.status in (Status.COMPLETED, Status.FAILED):
            return _Verdict(Status.COMPLETED, f"its parent {parent} has ended", Reason.PARENT_ENDED)
        status = Status.BLOCKED if above.status in _NEVER else Status.PENDING
        message = f"waits for its parent {parent}, which is {above.status.value}"
        return _Verdict(status, message, Reason.PARENT_NOT_RUNNING, above.next_try)


def _finished(record: Record) -> _Verdict:
    exit = record.life.exit
    if exit is None:
        return _Verdict(Status.COMPLETED)
    if exit.success or exit.reason is Reason.PARENT_ENDED:
        return _Verdict(Status.COMPLETED, ending(exit), exit.reason)
    policy = f"restartPolicy {record.spec.restart_policy}"
    retries = record.spec.backoff.max_retries
    if record.spec.restart_policy != "Never" and retries is not None:
        policy = f"given up after {retries} retries in a row"
    return _Verdict(Status.FAILED, f"{ending(exit)}; not tried again: {policy}", exit.reason)


def _waiting(record: Record | None, restarts_per_hour: int) -> _Verdict:
    exit = record.life.exit if record else None
    if record is None or exit is None:
        return _Verdict(Status.PENDING, "not started yet")
    life = record.life
    if life.next_try is None:
        return _Verdict(Status.PENDING, ending(exit), exit.reason)
    until, blown = fuse.next_try(life, restarts_per_hour)
    if blown and until is not None:
        limit = f"{restarts_per_hour} failures within an hour are the limit (--max-restarts-per-hour)"
        message = f"{ending(exit)}; {limit}; restarting at {timestamp(until)}, or when its spec changes"
        return _Verdict(Status.STALLED, message, Reason.RESTART_LIMIT, until)
    when = f"restarting in {span(life.next_try - exit.at)}, at {timestamp(life.next_try)}"
    if life.failures < 2:
        return _Verdict(Status.STARTING, f"{ending(exit)}; {when}", Reason.BACKING_OFF, life.next_try)
    message = f"{ending(exit)}; {life.failures} failures in a row; {when}"
    return _Verdict(Status.CRASH_LOOP, message, Reason.BACKING_OFF, life.next_try)


def _beside_running(record: Record | None, seen: ContainerStatus, trouble: Trouble | None) -> str:
    parts = [seen.message, *seen.limitations.values()]
    if trouble is not None:
        parts.append(_again(trouble))
    if record is not None and record.life.starts > 1 and record.life.exit is not None:
        parts.append(f"restarted: it {ending(record.life.exit)} at {timestamp(record.life.exit.at)}")
    return "; ".join(part for part in parts if part)


def _stuck(trouble: Trouble) -> bool:
    """It does nothing, or what is to end does not."""
    ending = trouble.reason is Reason.DESTROY_FAILED and not trouble.goal.startswith("run:")
    return ending or trouble.reason is Reason.NO_EFFECT


def _again(trouble: Trouble) -> str:
    when = f"; trying again at {timestamp(trouble.next_try)}" if trouble.next_try is not None else ""
    return f"{trouble.message}{when}"


# -- JSON ---------------------------------------------------------------------------------------------


def as_json(row: Row) -> dict[str, Any]:
    """The public form: a stable set of keys."""
    return {
        "name": row.name,
        "parent": row.parent,
        "type": row.type,
        "status": row.status.value,
        "state": row.state.value if row.state else None,
        "ready": row.ready,
        "pid": row.pid,
        "restarts": row.restarts,
        "generation": row.generation,
        "digest": row.digest,
        "source": row.source,
        "commit": commit_json(row.commit),
        "message": row.message,
        "reason": row.reason.value if row.reason else None,
        "startedAt": timestamp(row.started_at) if row.started_at is not None else None,
        "exit": exit_json(row.exit),
        "nextTry": timestamp(row.next_try) if row.next_try is not None else None,
        "namespaces": dict(row.namespaces),
        "cgroups": dict(row.cgroups),
        "limitations": dict(row.limitations),
        "sandbox": row.sandbox,
    }
