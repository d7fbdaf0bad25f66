"""One pass of the loop: look, account for what happened, decide, hand out work, say how it stands.

    list ─▶ observe ─▶ settle ─▶ plan ─▶ dispatch ─▶ rows          one worker per name carries on alone

Invariants: after the observation nothing is awaited, so what is decided on is what there is; an observation
older than a worker's end says nothing about its name; nothing is remembered that cannot be seen or read again
(troubles and approvals apart, which only delay or release).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import replace

from reconciler.errors import Retryable
from reconciler.loop import stalling
from reconciler.loop.desired import desire
from reconciler.loop.drift import Drift
from reconciler.loop.events import acting, rollback_ended, source_changed
from reconciler.loop.figures import Figures
from reconciler.loop.keeping import dropped, keep
from reconciler.loop.ledger import Ledger
from reconciler.loop.life import settle
from reconciler.loop.lister import Lister
from reconciler.loop.monitor import Monitor
from reconciler.loop.observer import Observer
from reconciler.loop.operations import Operations
from reconciler.loop.plan import plan as make_plan
from reconciler.loop.rows import Facts, rows
from reconciler.loop.settings import Settings
from reconciler.loop.suspending import forgotten, suspended
from reconciler.loop.texts import ending, timestamp
from reconciler.loop.values import (
    Action,
    Desired,
    DesiredContainer,
    Journal,
    Observed,
    Op,
    Plan,
    Record,
    Row,
    Trouble,
    ancestors,
    over,
)
from reconciler.loop.workers import Ending, Job, Slots, Superseded, Workers
from reconciler.runtime.containerizer import Runtime
from reconciler.spec.sources.listing import Listing
from reconciler.spec.sources.source import Source
from reconciler.states import ContainerState, Reason

log = logging.getLogger(__name__)

NOTHING = Desired(source="", complete=False)
"""Asked for by nobody: neither adds nor prunes."""


class Passes:
    """What is known between passes, and the pass itself. Never two at a time."""

    def __init__(
        self,
        source: Source | None,
        containerizer: Runtime,
        journal: Journal,
        clock: Callable[[], float],
        settings: Settings,
        wake: Callable[[], None],
    ) -> None:
        self._source, self._clock, self._settings, self._wake = source, clock, settings, wake
        self.ledger = Ledger(journal)
        self.workers = Workers(self._worker_done)
        self._lister = Lister(source, wake, patience=settings.list_patience) if source else None
        self._containerizer = containerizer
        self._observer = Observer(containerizer, wake, patience=settings.observe_patience, limit=settings.observe_limit)
        self.monitor = Monitor(containerizer, clock, wake)
        self._drift = Drift(containerizer, wake)
        self._updated: set[str] = set()
        self._operations = Operations(
            containerizer=containerizer,
            ledger=self.ledger,
            slots=Slots(settings.concurrency, settings.slot_lease),
            limits=settings.limits,
            hooks=settings.hooks,
            clock=clock,
            wanted=self._wanted,
            attempts=self._attempts,
            told=wake,
        )
        self.desired = NOTHING
        self.plan = Plan()
        self.rows: dict[str, Row] = {}
        self.doomed: set[str] = set()
        self.busy_files: tuple[str, ...] = ()
        self.retry_after: float | None = None
        self.figures = Figures()
        self._observed = Observed()
        self._troubles: dict[str, Trouble] = {}
        self._rounds: dict[str, stalling.Round] = {}
        self._serial = 0
        self._touched: dict[str, int] = {}
        self._tried: set[str] = set()
        self._first_tried: dict[str, float] = {}

    def close(self) -> None:
        self.monitor.close()
        self._drift.close()
        self._observer.close()
        if self._lister is not None:
            self._lister.close()
        self.ledger.close()

    # -- the pass -----------------------------------------------------------------------------------

    async def one_pass(self, *, passive: bool = False) -> Plan:
        """`passive`: what the source asks for is left aside; only what is doomed is acted on."""
        listing = await self._lister.list() if self._lister is not None and not passive else None
        serial, stale = self._serial, set(self.workers.busy)
        self._observed = await self._observer.observe(self.ledger.recorded.records)
        stale |= {name for name, at in self._touched.items() if at > serial}
        stale |= set(self.workers.busy)
        # from here to the end of dispatch nothing is awaited: what is decided on is what there is
        self._take_in(listing)
        self._settle(stale)
        health = self.monitor.follow(self.ledger.recorded.records, self._observed)
        drift = self._drift.follow(self.ledger.recorded.records, self._observed, self._updated)
        self._updated.clear()
        self._observed = replace(self._observed, health=health, drift=drift)
        self.plan = make_plan(
            self.desired,
            self.ledger.recorded,
            self._observed,
            self._clock(),
            troubles=self._apt_troubles(),
            doomed=self.doomed,
            by_command=self.ledger.suspended,
            restarts_per_hour=self._settings.restarts_per_hour,
        )
        self._dispatch(self.plan, stale - set(self.workers.busy))
        self._touched.clear()
        await asyncio.sleep(0)  # the launches go out before the rows are made
        self._publish()
        return self.plan

    def _take_in(self, listing: Listing | None) -> None:
        recorded = self.ledger.recorded
        if listing is None or self._source is None:
            self.desired = NOTHING
            return
        unknown = self.desired.unknown_reason
        rollbacks = self.ledger.rollbacks
        desired = desire(listing, recorded, self._source.identity, self._settings.node_labels, rollbacks)
        if event := source_changed(unknown, desired.unknown_reason, self._clock()):
            self.ledger.tell(event)
        self.retry_after = listing.retry_after
        self.busy_files = listing.busy
        if desired.complete:
            self.ledger.approved.be(self.ledger.approved.names & dropped(desired, recorded).keys())
        self.desired, held = keep(desired, recorded, self.ledger.approved.names, self.ledger.held.names)
        if desired.complete:
            self.ledger.held.be(held)
        for name, tree in desired.trees.items():
            self.ledger.remember(name, tree, self._clock())
            if name in rollbacks and rollbacks[name].over(tree):
                self._end_rollback(name, f"{tree.origin.file} has been edited: what it asks for is in force")
        for name in forgotten(self.ledger.suspended, self.desired, self.there()):
            with contextlib.suppress(Retryable):
                self.ledger.suspend(name, None)

    def _end_rollback(self, name: str, why: str) -> None:
        with contextlib.suppress(Retryable):  # until it is recorded, what the file has is in force all the same
            self.ledger.roll_back(name, None)
            self.ledger.tell(rollback_ended(name, why, self._clock()))

    def _settle(self, stale: Collection[str]) -> None:
        """Account for ends and starts; not for what a worker has in hand, nor for what is nested in it."""
        before = self.ledger.recorded
        in_hand = {name for name in before.records if _touches(name, stale)}
        after = settle(before, self._observed, self._clock(), in_hand)
        for name, record in after.records.items():
            if record is not before.records[name]:
                _log_transition(before.records[name], record)
                try:
                    self.ledger.save(record)
                except OSError as error:  # seen again by the next pass; the other names go on
                    log.error("%s: its record could not be written: %s", name, error)

    def _dispatch(self, plan: Plan, stale: Collection[str]) -> None:
        planned = {action.name: action.goal for action in plan.actions}
        for unwanted in self._unwanted(planned):
            unwanted.supersede()
        for action in plan.actions:
            job = self.workers.busy.get(action.name)
            if job is not None:
                if job.action.goal != action.goal:
                    job.supersede()
                continue
            kin = list(self.workers.kin(action.name)) if self.workers.busy else []
            if action.op.starts or action.op.ends:
                for other in kin:
                    below = other.action.name
                    if below.startswith(action.name + ".") and planned.get(below) != other.action.goal:
                        other.supersede()
            waits = any(name in planned for name in action.after)
            if not kin and not waits and not _touches(action.name, stale):
                self._begin(action)

    def _unwanted(self, planned: Collection[str]) -> list[Job]:
        """What is still on its way to a start, when nothing is to be done with that name any more: what runs is what is
        wanted again, or nothing runs and nothing is to."""
        starting = {name: job for name, job in self.workers.busy.items() if job.may_start and name not in planned}
        suspended = self.suspended(starting)
        return [
            job
            for name, job in starting.items()
            if (want := self._wanted(name)) is None or want.digest != job.action.digest or name in suspended
        ]

    def _begin(self, action: Action) -> None:
        if action.renew:
            for name in [name for name in self._troubles if name.startswith(action.name + ".")]:
                del self._troubles[name]
        self._first_tried.setdefault(action.name, self._clock())
        self.ledger.tell(acting(action, self._clock()))
        self._rounds[action.name] = stalling.begun(self._rounds.get(action.name), action, self._sight(action.name))
        self.workers.start(action, self._operations.perform)

    def _worker_done(self, job: Job, outcome: Ending, error: BaseException | None) -> None:
        name = job.action.name
        self._serial += 1
        self._touched[name] = self._serial
        self._tried.add(name)
        if job.action.op is Op.UPDATE:
            self._updated.add(name)
        if error is not None:
            outcome = self._operations.trouble_of(job.action, error)
        self.figures.acted(job.action, outcome)
        if isinstance(outcome, Trouble):
            self._troubles[name] = outcome
        elif outcome is Superseded.SUPERSEDED:
            log.info("%s: %s %s", name, job.action.op.value, outcome.value)
        elif stuck := stalling.stalled(self._rounds[name], job.action, self._clock()):
            self._troubles[name] = stuck
        else:
            self._troubles.pop(name, None)
        self._wake()

    def _wanted(self, name: str) -> DesiredContainer | None:
        return None if name in self.doomed else self.desired.containers.get(name)

    def _attempts(self, action: Action) -> int:
        trouble = self._troubles.get(action.name)
        return trouble.attempts if trouble is not None and trouble.goal == action.goal else 0

    def _sight(self, name: str) -> stalling.Sight:
        return stalling.sight(self.ledger.get(name), self._observed.containers.get(name), self._drift.last(name))

    def _apt_troubles(self) -> dict[str, Trouble]:
        """Forget troubles with goals that are no longer anyone's, and rounds that had an effect."""
        busy = self.workers.busy
        self._rounds = {
            name: one for name, one in self._rounds.items() if name in busy or self._sight(name) == one.sight
        }
        self._troubles = {name: trouble for name, trouble in self._troubles.items() if self._is_apt(name, trouble)}
        return self._troubles

    def _is_apt(self, name: str, trouble: Trouble) -> bool:
        op, _, digest = trouble.goal.partition(":")
        want, record = self.desired.containers.get(name), self.ledger.get(name)
        seen = self._observed.containers.get(name)
        if trouble.reason is Reason.NO_EFFECT and name not in self._rounds:
            return False
        if op == Op.DESTROY:
            return record is not None or seen is not None or name in self._observed.unknown
        if op in (Op.STOP, Op.COMPLETE, Op.SUSPEND, Op.EXPIRE, Op.FAIL):
            return not over(seen)
        if want is None or want.digest != digest:
            return False
        settled = record is not None and record.digest == digest and seen is not None and seen.running
        return not settled or trouble.reason is Reason.NO_EFFECT or name in self.workers.busy

    # -- what is asked of it ------------------------------------------------------------------------

    @property
    def unsettled(self) -> frozenset[str]:
        """Names of which it has yet to be seen whether they are ready."""
        return frozenset(name for name, health in self._observed.health.items() if not health.settled)

    @property
    def held(self) -> frozenset[str]:
        """Names whose end waits for `approve`, with what is nested in them: the topmost of each tree that goes."""
        held = {name for name, kept in self.desired.kept.items() if kept.held}
        return frozenset(name for name in held if not any(one in held for one in ancestors(name)))

    def approve(self, names: Collection[str] | None) -> frozenset[str]:
        approved = self.held if names is None else self.held & frozenset(names)
        self.ledger.approved.be(self.ledger.approved.names | approved)
        return approved

    def suspended(self, names: Collection[str]) -> dict[str, str]:
        """Those of the names that are suspended → why."""
        return suspended(names, self.desired, self.ledger.recorded, self.ledger.suspended)

    def active(self, names: Collection[str]) -> frozenset[str]:
        """What runs, or may run, of these names and of what is nested in them."""
        seen = self._observed
        alive = {name for name, one in seen.containers.items() if not over(one)}
        return frozenset(
            name for name in {*alive, *seen.unknown, *self.workers.busy} if any(is_within(name, one) for one in names)
        )

    def there(self) -> frozenset[str]:
        """Every name of which there is anything: a record, an instance, a worker."""
        recorded = self.ledger.recorded
        seen = self._observed
        return frozenset({*recorded.records, *recorded.unreadable, *seen.containers, *seen.unknown, *self.workers.busy})

    def own_rows(self) -> tuple[Row, ...]:
        """Rows of what this source asks for, or asked for."""
        records = self.ledger.recorded.records
        return tuple(
            row
            for row in self.rows.values()
            if row.name not in records
            or records[row.name].origin.source == self.desired.source
            or row.name in self.desired.refusals
        )

    # -- what is told -------------------------------------------------------------------------------

    def present(self) -> dict[str, int]:
        """How many of what, at this moment, for the metrics."""
        return {
            "planned": len(self.plan.actions),
            "held": len(self.held),
            "waiting": len(self.plan.waits),
            "busy": len(self.workers.busy),
            "unknown": len(self._observed.unknown),
            "drifted": len(self._observed.drift),
            "source_known": int(self.desired.complete),
        }

    def notes(self) -> dict[str, str]:
        """Remarks on the source as a whole, and on its files."""
        notes = dict(self.desired.ignored) | {file: "is still being written" for file in self.busy_files}
        notes |= self.desired.errors
        notes |= self._containerizer.notes()
        if self.desired.unknown_reason:
            notes["source"] = self.desired.unknown_reason
        if self._source is not None and self._source.note:
            notes["watch"] = self._source.note
        if (commit := self.desired.commit) is not None:
            notes["commit"] = f"{commit.id} by {commit.author}, {timestamp(commit.time)}: {commit.subject}"
        return notes

    def _publish(self) -> None:
        facts = Facts(
            self.desired,
            self.ledger.recorded,
            self._observed,
            self.plan,
            {name: job.action.op for name, job in self.workers.busy.items()},
            self._troubles,
            self.ledger.sandbox,
            self.ledger.suspended,
            self._settings.restarts_per_hour,
            {name: job.said for name, job in self.workers.busy.items() if job.said},
        )
        # of what never ran there is nothing but its file: while that is written, it is as it was
        unread = {name: row for name, row in self.rows.items() if row.source in self.busy_files}
        self.rows = {**unread, **rows(facts)}
        self.ledger.publish(self.rows.values(), self.notes())

    def each_tried(self) -> bool:
        """No name is left that was not tried; a pull, or a launch that takes its time, counts as tried."""
        waiting = {action.name for action in self.plan.actions} | self.workers.busy.keys()
        return all(self._is_tried(name) for name in waiting - self._tried)

    def _is_tried(self, name: str) -> bool:
        seen, since = self._observed.containers.get(name), self._first_tried.get(name)
        fetching = seen is not None and seen.state in (ContainerState.FETCHING, ContainerState.PULLING)
        pulling = name in self.workers.busy and bool(self.workers.busy[name].said)
        return fetching or pulling or (since is not None and self._clock() - since > self._settings.ready_patience)


def is_within(name: str, ancestor: str) -> bool:
    """It is that name, or nested in it."""
    return name == ancestor or name.startswith(ancestor + ".")


def _touches(name: str, names: Collection[str]) -> bool:
    """It, or something it is nested in, is among the names."""
    return bool(names) and (name in names or any(one in names for one in ancestors(name)))


def _log_transition(before: Record, after: Record) -> None:
    exit = after.life.exit
    if exit is not None and exit != before.life.exit:
        log.info("%s: it %s", after.name, ending(exit))
    elif after.life.started_at is not None and before.life.started_at is None:
        log.info("%s: runs", after.name)
