"""The life of a name between its runs: what a start, an end or a changed spec does to its history.

        started ──▶ running ──ended──▶ finished            (one-shot done; retries used up)
           ▲                     │
           └──── next_try ◀──────┘                         (backoff, or at once after its parent's end)

Invariants: a run is accounted for once; what we ended ourselves, or what ended with its parent, is no
failure; a one-shot runs once per generation. Pure transitions; `settle` applies them to a snapshot.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from reconciler.loop import backoff, fuse
from reconciler.loop.values import Life, Observed, Record, Recorded, over
from reconciler.runtime.containerizer import ContainerStatus, Termination
from reconciler.spec.model import ContainerSpec
from reconciler.spec.quantities import format_duration
from reconciler.states import Reason

SAME_RUN = 0.5
"""Two reports of an end no further apart (seconds) speak of the same run."""

OURS = frozenset({Reason.DESTROYED, Reason.PARENT_ENDED})


def started(life: Life, at: float) -> Life:
    return replace(life, starts=life.starts + 1, started_at=at, next_try=None, finished=False)


def renewed(exit: Termination | None) -> Life:
    """A new generation: nothing of the old one counts but how it ended."""
    return Life(exit=exit)


def ended(life: Life, spec: ContainerSpec, termination: Termination, now: float) -> Life:
    """The run in progress is over; `now` is when that was learnt."""
    over = replace(life, exit=termination, started_at=None, next_try=None)
    if spec.class_ == "debug":
        return replace(over, failures=0, finished=True)  # it is there for one look, whatever ended it
    if termination.reason in OURS:
        return over
    if termination.success:
        done = spec.restart_policy != "Always"
        wait = backoff.delay(spec.backoff, 0, backoff.jitter(spec.name, life.starts))
        return replace(over, failures=0, finished=done, next_try=None if done else now + wait)
    earlier = 0 if _stable(life, spec, termination) else life.failures
    return _failed(replace(over, failures=earlier + 1, failed_at=fuse.noted(life.failed_at, now)), spec, now)


def _stable(life: Life, spec: ContainerSpec, termination: Termination) -> bool:
    return life.started_at is not None and termination.at - life.started_at >= spec.backoff.reset_after


def _failed(life: Life, spec: ContainerSpec, now: float) -> Life:
    retries = spec.backoff.max_retries
    if spec.restart_policy == "Never" or (retries is not None and life.failures > retries):
        return replace(life, finished=True)
    wait = backoff.delay(spec.backoff, life.failures, backoff.jitter(spec.name, life.failures))
    return replace(life, next_try=now + wait)


def launch_failed(life: Life, spec: ContainerSpec, termination: Termination, now: float) -> Life:
    """A launch that failed counts as a run."""
    return ended(started(life, termination.at), spec, termination, now)


def revised(life: Life, spec: ContainerSpec) -> Life:
    """The spec changed in a way that needs no restart; `spec` is the new one. What waited starts at once,
    and whether the generation is over is judged anew."""
    fresh = replace(life, failures=0, next_try=None, failed_at=())
    if life.started_at is not None or life.exit is None or life.exit.reason in OURS:
        return fresh
    well, policy = life.exit.success, spec.restart_policy
    return replace(fresh, finished=policy != "Always" if well else policy == "Never")


def deadline(record: Record) -> float | None:
    """When the run in progress has taken too long; None: never."""
    limit, began = record.spec.max_completion_time, record.life.started_at
    return None if limit is None or began is None else began + limit


def expired(life: Life, spec: ContainerSpec, exit: Termination | None, now: float) -> Life:
    """We ended it because it took longer than its maxCompletionTime: a failure, however it ended then."""
    exit = exit or Termination(code=None, signal=None, reason=Reason.DEADLINE_EXCEEDED, at=now)
    took = f"it was ended after its maxCompletionTime of {format_duration(spec.max_completion_time or 0)}"
    return ended(life, spec, replace(exit, reason=Reason.DEADLINE_EXCEEDED, message=took), now)


def condemned(life: Life, spec: ContainerSpec, exit: Termination | None, why: str, now: float) -> Life:
    """We end it because it failed its health checks: a failure, however it ends then. exit: None before it has."""
    exit = exit or Termination(code=None, signal=None, reason=Reason.UNHEALTHY, at=now)
    return ended(life, spec, replace(exit, reason=Reason.UNHEALTHY, message=why), now)


def suspended(life: Life, spec: ContainerSpec, exit: Termination | None, now: float) -> Life:
    """We ended it because it is suspended: no failure, and the run does not count as done."""
    exit = exit or Termination(code=None, signal=None, reason=Reason.DESTROYED, at=now)
    return ended(life, spec, replace(exit, reason=Reason.DESTROYED, message="it was suspended"), now)


def held_to_the_end(life: Life, now: float) -> Life:
    """A holder with nothing left to hold is done."""
    termination = Termination(
        code=0, signal=None, reason=Reason.EXITED, at=now, message="nothing nested will run again"
    )
    return replace(life, exit=termination, started_at=None, next_try=None, failures=0, finished=True)


def ended_with_parent(life: Life, spec: ContainerSpec, exit: Termination | None, now: float) -> Life:
    """We ended it because its parent had ended; `exit` is how, where that could be had."""
    exit = exit or Termination(code=None, signal=None, reason=Reason.PARENT_ENDED, at=now)
    return ended(life, spec, replace(exit, reason=Reason.PARENT_ENDED), now)


def settle(recorded: Recorded, observed: Observed, now: float, skip: Set[str] = frozenset()) -> Recorded:
    """The records with everything accounted for that was observed. Names in `skip` (a worker has them
    in hand) and unknown ones stay as they are. Records that did not change are the same objects."""
    records = dict(recorded.records)
    for name in sorted(records):  # a parent before its nested
        record = records[name]
        if name in skip or name in observed.unknown or record.deleting:
            continue
        life = _observed_life(record, records, observed, now, skip)
        if life != record.life:
            records[name] = replace(record, life=life)
    return replace(recorded, records=records)


def _observed_life(record: Record, records: dict[str, Record], observed: Observed, now: float, skip: Set[str]) -> Life:
    life, seen = record.life, observed.containers.get(record.name)
    if seen is not None and not over(seen):
        begun = life.started_at is None and seen.running
        return started(life, seen.started_at or now) if begun else life
    if seen is None and life.started_at is None:
        return life  # nothing ran, nothing runs
    if seen is not None and _known(life, seen):
        return life
    termination = (seen and seen.termination) or _lost(now)
    if _with_parent(record, termination, records, observed, skip):
        termination = replace(termination, reason=Reason.PARENT_ENDED)
    if life.started_at is None:  # it came and went while nobody looked
        life = started(life, (seen and seen.started_at) or termination.at)
    return ended(life, record.spec, termination, now)


def _known(life: Life, seen: ContainerStatus) -> bool:
    """Whether the end that `seen` reports has been accounted for."""
    if life.started_at is not None or life.exit is None:
        return False
    began = life.exit.at if seen.started_at is None else seen.started_at
    if life.exit.reason is Reason.UNHEALTHY and began < life.exit.at:
        return True  # it was counted when it was condemned
    return seen.termination is None or seen.termination.at <= life.exit.at + SAME_RUN


def _lost(now: float) -> Termination:
    return Termination(code=None, signal=None, reason=Reason.EXIT_STATUS_LOST, at=now)


def _with_parent(
    record: Record, termination: Termination, records: dict[str, Record], observed: Observed, skip: Set[str]
) -> bool:
    """Whether the run ended because its parent's did: the kernel then reports SIGKILL, or nothing."""
    parent = record.spec.parent
    killed = termination.signal == 9 or termination.reason is Reason.EXIT_STATUS_LOST
    if parent is None or not killed or termination.oom_killed:
        return False
    seen = observed.containers.get(parent)
    if parent in skip or (seen is None and parent not in observed.unknown):
        return True
    if seen is None or not seen.running:
        return seen is not None
    began = seen.started_at or (records[parent].life.started_at if parent in records else None)
    return began is not None and record.life.started_at is not None and began > record.life.started_at
