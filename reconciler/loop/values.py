"""The frozen values the loop decides on: desired, recorded, observed; and what it decides: a plan.

Three sets, never two. *Desired* is what the sources say now. *Recorded* is what was last applied
(written before it is launched, removed after it is certainly gone), so that pruning knows its own.
*Observed* is what the containerizers report; a name that could not be observed is `unknown`, which
is never `absent`. Pure data: no I/O, no clock; times are seconds since the epoch passed in as `now`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reconciler.loop.health import Health
from reconciler.runtime.containerizer import ContainerStatus, Termination
from reconciler.spec.model import ContainerSpec
from reconciler.states import ChangeClass, ContainerState, Reason, Status

if TYPE_CHECKING:
    from reconciler.loop.events import Event
    from reconciler.loop.revisions import Revision
    from reconciler.spec.sources.listing import Commit


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a spec was written. source: the directory (absolute, as given) or URL; file: path, for a URL within
    what it names; line: 1-based; commit: it was read from, where the source has such."""

    source: str
    file: str
    line: int = 1
    commit: Commit | None = None


@dataclass(frozen=True, slots=True)
class DesiredContainer:
    """A valid container that a source asks for now. Nested ones appear under their dotted names.

    digest:   of the spec and of `contents`
    contents: field → keyed hash of the file that it refers to
    """

    spec: ContainerSpec
    digest: str
    origin: Origin
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tree:
    """A top-level name as its file has it, validly, whether or not that is what is asked for. digest: of the specs of
    all of its containers, which are parents first."""

    digest: str
    specs: tuple[ContainerSpec, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Refusal:
    """A name that a source mentions but that must not be run as written: Invalid, Blocked, Conflict.
    The last good version, where one runs, goes on; `message` has file:line:column, cause, next step."""

    name: str
    status: Status
    reason: Reason
    message: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Kept:
    """Why a name goes on as it was last applied although no file asks for it. `held`: until someone approves."""

    reason: Reason
    message: str
    held: bool


@dataclass(frozen=True, slots=True)
class Desired:
    """What the source says now. `complete` is False when the listing could not be had or is still
    unsettled: then nothing may be pruned (adds are still allowed). `held_names`: names which an
    unreadable, busy or nameless-invalid file may define, hence never pruned; `ignored`: paths with why.
    `commit`: what all of this was read from, where the source has such.
    `errors`: file → everything wrong with it, a line per error (a refusal repeats those of its name).
    `refusals` may name a container that is in `containers` too: then its last good version is what is asked for.
    `elsewhere`: asked for, but of other nodes. `kept`: what is in `containers` only because `keeping` put it there.
    `trees`: top-level name → what its file has; `rolled_back`: top-level name → what is asked for instead, in words."""

    source: str
    containers: Mapping[str, DesiredContainer] = field(default_factory=dict)
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    complete: bool = True
    unknown_reason: str = ""
    held_names: frozenset[str] = frozenset()
    ignored: tuple[tuple[str, str], ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    commit: Commit | None = None
    elsewhere: Mapping[str, Refusal] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)
    trees: Mapping[str, Tree] = field(default_factory=dict)
    rolled_back: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Life:
    """The history of one name that restart decisions need; persisted in its record.

    starts:     starts of this generation (restarts = starts - 1, floored at 0)
    failures:   failures in a row, reset by a spec change or by running for backoff.resetAfter
    started_at: of the run in progress; None when none is, so an ended run is accounted for exactly once
    next_try:   not before this time; None: at once
    exit:       how the last run ended; None while the first one lasts
    finished:   this generation is over: no further run by restart policy (one-shot done, or failed for good)
    failed_at:  its failures of the last hour, for the fuse
    """

    starts: int = 0
    failures: int = 0
    started_at: float | None = None
    next_try: float | None = None
    exit: Termination | None = None
    finished: bool = False
    failed_at: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """What was last applied for a name. `schema` is the normaliser's version that made `spec`; `contents` as in
    DesiredContainer."""

    name: str
    schema: int
    spec: ContainerSpec
    digest: str
    generation: int
    origin: Origin
    life: Life = Life()
    deleting: bool = False
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recorded:
    """`unreadable`: name → why its record cannot be read; such a name is quarantined."""

    records: Mapping[str, Record] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observed:
    """What the containerizers report. A name in neither map is certainly absent.
    `unknown`: name → why it could not be observed; nothing destructive is done to it.
    `health`: of those that run and have checks; `drift`: name → what somebody else changed about it."""

    containers: Mapping[str, ContainerStatus] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)
    drift: Mapping[str, str] = field(default_factory=dict)

    def ready(self, name: str) -> bool:
        """It runs, and its checks, if it has any, say that it serves."""
        seen, health = self.containers.get(name), self.health.get(name)
        return seen is not None and seen.running and seen.begun and (health is None or health.ready)


def over(seen: ContainerStatus | None) -> bool:
    """No run is in progress: absent, ended, or ended and still being cleaned up after."""
    if seen is None or seen.state is None:
        return True
    return seen.state is ContainerState.DESTROYING and seen.termination is not None


def ancestors(name: str) -> tuple[str, ...]:
    """What it is nested in, outermost first: "a.b.c" → "a", "a.b"."""
    labels = name.split(".")
    return tuple(".".join(labels[:end]) for end in range(1, len(labels)))


class Op(StrEnum):
    """What a worker can be told to do.

    create   first start of a generation         restart  end what is left of it, then start
    update   change resources in place           record   re-write what we know, no kernel call
    adopt    record an instance that runs as asked for
    stop     end the instance, keep the record: its parent has ended
    complete end a holder that has nothing left to hold
    suspend  end the instance, keep the record: it is suspended
    expire   end a run that has taken longer than its maxCompletionTime
    fail     end a run that has failed its health checks
    destroy  end it, then forget the record with logs and sandbox
    """

    CREATE = "create"
    RESTART = "restart"
    UPDATE = "update"
    RECORD = "record"
    ADOPT = "adopt"
    STOP = "stop"
    COMPLETE = "complete"
    SUSPEND = "suspend"
    EXPIRE = "expire"
    FAIL = "fail"
    DESTROY = "destroy"

    @property
    def starts(self) -> bool:
        return self in (Op.CREATE, Op.RESTART)

    @property
    def ends(self) -> bool:
        return self in (Op.STOP, Op.COMPLETE, Op.SUSPEND, Op.EXPIRE, Op.FAIL, Op.DESTROY)


@dataclass(frozen=True, slots=True)
class Action:
    """One thing for the worker of `name` to do.

    cause:   for people: which field changed from what to what, or what was observed
    after:   names whose own actions must be over first (a parent before its nested, a dependency before what depends
             on it; at the end the other way round)
    digest:  of the spec to be brought about; empty for what ends
    renew:   it begins a new generation (its spec, or its parent's, was replaced)
    """

    op: Op
    name: str
    cause: str
    change: ChangeClass
    after: tuple[str, ...] = ()
    digest: str = ""
    renew: bool = False

    @property
    def goal(self) -> str:
        """What it brings about. A worker with the same goal is already doing it; with another one it is superseded."""
        kind = "run" if self.op.starts else self.op.value
        return f"{kind}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Hold:
    """Something that would be done but is held: mass deletion, unknown source, unknown state."""

    name: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A start that is due, but for a dependency. `circle`: the names on the way round, if that is why."""

    name: str
    on: str
    condition: str
    circle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last attempt at `goal` came to nothing. Kept in memory only: another agent, with other
    flags, tries again. `terminal`: not tried again until the goal changes, that is until the spec does."""

    goal: str
    reason: Reason
    message: str
    at: float
    attempts: int = 1
    next_try: float | None = None
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Empty `actions` means converged. `wake_at`: when to look again although nothing happens (backoff)."""

    actions: tuple[Action, ...] = ()
    holds: tuple[Hold, ...] = ()
    waits: tuple[Wait, ...] = ()
    wake_at: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What `ps` says of a name; its JSON form is DESIGN section 4 (see `as_json`)."""

    name: str
    parent: str | None
    type: str
    status: Status
    state: ContainerState | None
    ready: bool
    pid: int | None
    restarts: int
    generation: int
    digest: str
    source: str
    message: str
    reason: Reason | None
    started_at: float | None
    exit: Termination | None
    next_try: float | None
    namespaces: Mapping[str, int]
    cgroups: Mapping[str, str]
    sandbox: str
    commit: Commit | None = None
    limitations: Mapping[str, str] = field(default_factory=dict)


class Journal(Protocol):
    """Where records and rows are kept. Every write is atomic (temporary file, rename); `flush`
    makes the records of this pass durable (fsync) in one batch. `save` is called on the event loop;
    `remove`, `flush` and `publish` in threads, at most one of each kind and name at a time."""

    def load(self) -> Recorded: ...

    def ready(self) -> Mapping[str, int]:
        """What an earlier agent found ready, as far as it is still known: name → pid."""
        ...

    def save(self, record: Record) -> None: ...

    def remove(self, name: str) -> None:
        """Forget the record and delete logs and sandbox of the name."""
        ...

    def sandbox(self, name: str) -> Path: ...

    def logs(self, name: str) -> Path: ...

    def flush(self) -> None: ...

    def marks(self, kind: str) -> Mapping[str, Mapping[str, Any]]:
        """What was decided about names and must outlive the agent: name → details, {} if they cannot be read."""
        ...

    def mark(self, kind: str, name: str, details: Mapping[str, Any] | None) -> None:
        """Durable when it returns. details None: take the mark off."""
        ...

    def revisions(self, name: str) -> tuple[Revision, ...]:
        """Of a top-level name, oldest first. They go with its record."""
        ...

    def remember(self, name: str, kept: Sequence[Revision]) -> None:
        """Durable when it returns; in a thread. Nothing happens when there is nothing of the name any more."""
        ...

    def publish(self, rows: Iterable[Row], notes: Mapping[str, str], told: Sequence[Event]) -> None:
        """Make the rows readable for `ps` with or without an agent; drops rows of names not given.
        notes: source-wide remarks (path → why ignored, "source" → why it is unknown).
        told: events since the last time; those that the rows tell by their differences are not among them."""
        ...
