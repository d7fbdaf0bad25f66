"""The loop: look, decide, hand out work, say how it stands; again whenever something may have changed.

    wake ─▶ list ─▶ observe ─▶ settle ─▶ plan ─▶ dispatch ─▶ rows          (one pass, never two at a time)
      ▲                                             │
      └── hint, exit, worker done, timer ◀──────────┘ one worker per name

Invariants: level-triggered, nothing is remembered that cannot be seen or read again (troubles and approvals
apart, which only delay); an observation older than a worker's end says nothing about its name; a fault in
one pass or one name is logged, told and tried again, and never ends the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from reconciler.loop import guard
from reconciler.loop.desired import desire
from reconciler.loop.ledger import Ledger
from reconciler.loop.life import settle
from reconciler.loop.lister import Lister
from reconciler.loop.observer import Observer
from reconciler.loop.operations import Operations
from reconciler.loop.outcome import Outcome, not_gone, out_of_time, verdict
from reconciler.loop.plan import plan as make_plan
from reconciler.loop.rows import Facts, rows
from reconciler.loop.settings import Settings
from reconciler.loop.texts import ending
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
    Source,
    Trouble,
    over,
)
from reconciler.loop.workers import Ending, Job, Slots, Superseded, Workers
from reconciler.runtime.containerizer import Containerizer
from reconciler.spec.sources.listing import Listing
from reconciler.states import ContainerState

log = logging.getLogger(__name__)

NOTHING = Desired(source="", complete=False)
"""Asked for by nobody: neither adds nor prunes."""


class Reconciler:
    """`source` None: nothing is asked for; only `destroy` has an effect."""

    def __init__(
        self,
        source: Source | None,
        containerizer: Containerizer,
        journal: Journal,
        clock: Callable[[], float] = time.time,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._source = source
        self._containerizer = containerizer
        self._clock = clock
        self._ledger = Ledger(journal)
        self._observer = Observer(
            containerizer,
            self.wake,
            patience=self.settings.observe_patience,
            limit=self.settings.observe_limit,
        )
        self._lister = Lister(source, self.wake, patience=self.settings.list_patience) if source else None
        self._workers = Workers(self._worker_done)
        self._operations = Operations(
            containerizer=containerizer,
            ledger=self._ledger,
            slots=Slots(self.settings.concurrency, self.settings.slot_lease),
            limits=self.settings.limits,
            clock=clock,
            wanted=self._wanted,
            attempts=self._attempts,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._passed = asyncio.Event()
        self._running = False
        self._serial = 0
        self._touched: dict[str, int] = {}
        self._troubles: dict[str, Trouble] = {}
        self._tried: set[str] = set()
        self._first_tried: dict[str, float] = {}
        self._held: frozenset[str] = frozenset()
        self._approved: set[str] = set()
        self._doomed: set[str] = set()
        self._desired = NOTHING
        self._observed = Observed()
        self._plan = Plan()
        self._rows: dict[str, Row] = {}
        self._retry_after: float | None = None
        self._busy_files: tuple[str, ...] = ()

    # -- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Rebuild what is known: the containerizer's containers, then our records."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.settings.recover):
            await self._containerizer.recover()
        self._ledger.load()

    def wake(self) -> None:
        """Look again soon. From any thread; many calls make one pass."""
        loop = self._loop
        if loop is None:
            self._wake.set()
            return
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._wake.set()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Converge until `stop`. `ready` is called once, when each name has been tried. Containers stay."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        stopping.add_done_callback(lambda _: self._wake.set())
        self._running, told = True, False
        try:
            while not stop.is_set():
                self._wake.clear()
                sound = await self._guarded_pass()
                self._announce_pass()
                if not told and sound and self._each_tried():
                    told = True
                    ready()
                await self._sleep(self._until_next_look() if sound else self.settings.resync)
        finally:
            self._running = False
            self._announce_pass()
            stopping.cancel()

    async def close(self, grace: float = 5.0) -> None:
        """Let workers come to an end, write what is to be written, let go. Containers stay."""
        await self._workers.finish(grace)
        try:
            await self._ledger.drain()
        except OSError as error:
            log.error("records could not be made durable: %s", error)
        self._observer.close()
        if self._lister is not None:
            self._lister.close()
        self._ledger.close()
        await self._containerizer.close()

    async def _guarded_pass(self) -> bool:
        """A pass in a task of its own, so that whatever goes wrong in it is seen here as a result."""
        task = asyncio.create_task(self.one_pass(), name="pass")
        await asyncio.wait({task})
        if (error := task.exception()) is None:
            return True
        log.error("this pass failed, another follows", exc_info=error)
        return False

    def _announce_pass(self) -> None:
        self._passed.set()
        self._passed = asyncio.Event()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _until_next_look(self) -> float:
        waits = [self.settings.resync]
        if self._plan.wake_at is not None:
            waits.append(self._plan.wake_at - self._clock())
        if self._retry_after is not None:
            waits.append(self._retry_after)
        return min(waits)

    # -- one pass -----------------------------------------------------------------------------------

    async def one_pass(self, *, passive: bool = False) -> Plan:
        """`passive`: what the source asks for is left aside; only what is doomed is acted on."""
        listing = await self._lister.list() if self._lister is not None and not passive else None
        serial, stale = self._serial, set(self._workers.busy)
        self._observed = await self._observer.observe()
        stale |= {name for name, at in self._touched.items() if at > serial}
        stale |= set(self._workers.busy)
        # from here on nothing is awaited: what is decided on is what there is
        self._take_in(listing)
        self._settle(stale)
        self._plan = make_plan(
            self._desired,
            self._ledger.recorded,
            self._observed,
            self._clock(),
            troubles=self._apt_troubles(),
            held=self._held,
            doomed=self._doomed,
        )
        self._dispatch(self._plan, stale - set(self._workers.busy))
        self._touched.clear()
        self._publish()
        return self._plan

    def _take_in(self, listing: Listing | None) -> None:
        recorded = self._ledger.recorded
        if listing is None or self._source is None:
            self._desired = NOTHING
            return
        self._desired = desire(listing, recorded, self._source.identity)
        self._retry_after = listing.retry_after
        self._busy_files = listing.busy
        gone = guard.dropped(self._desired, recorded)
        self._approved &= gone
        self._held = guard.held(self._desired, recorded, self._approved, self._held)

    def _settle(self, stale: Collection[str]) -> None:
        """Account for ends and starts; not for what a worker has in hand, nor for what is nested in it."""
        before = self._ledger.recorded
        in_hand = {name for name in before.records if _touches(name, stale)}
        after = settle(before, self._observed, self._clock(), in_hand)
        for name, record in after.records.items():
            if record is not before.records[name]:
                _log_transition(before.records[name], record)
                self._ledger.save(record)

    def _dispatch(self, plan: Plan, stale: Collection[str]) -> None:
        planned = {action.name for action in plan.actions}
        for action in plan.actions:
            job = self._workers.busy.get(action.name)
            if job is not None:
                if job.action.goal != action.goal:
                    job.supersede()
                continue
            kin = list(self._workers.kin(action.name)) if self._workers.busy else []
            if action.op.starts or action.op.ends:
                for other in kin:
                    if other.action.name.startswith(action.name + "."):
                        other.supersede()
            waits = any(name in planned for name in action.after)
            if not kin and not waits and not _touches(action.name, stale):
                self._begin(action)

    def _begin(self, action: Action) -> None:
        if action.renew:
            for name in [name for name in self._troubles if name.startswith(action.name + ".")]:
                del self._troubles[name]
        self._first_tried.setdefault(action.name, self._clock())
        self._workers.start(action, self._operations.perform)

    def _worker_done(self, job: Job, outcome: Ending, error: BaseException | None) -> None:
        name = job.action.name
        self._serial += 1
        self._touched[name] = self._serial
        self._tried.add(name)
        if error is not None:
            outcome = self._operations.trouble_of(job.action, error)
        if isinstance(outcome, Trouble):
            self._troubles[name] = outcome
        elif outcome is Superseded.SUPERSEDED:
            log.info("%s: %s %s", name, job.action.op.value, outcome.value)
        else:
            self._troubles.pop(name, None)
        self.wake()

    def _wanted(self, name: str) -> DesiredContainer | None:
        return None if name in self._doomed else self._desired.containers.get(name)

    def _attempts(self, action: Action) -> int:
        trouble = self._troubles.get(action.name)
        return trouble.attempts if trouble is not None and trouble.goal == action.goal else 0

    def _apt_troubles(self) -> dict[str, Trouble]:
        """Forget troubles with goals that are no longer anyone's."""
        self._troubles = {name: trouble for name, trouble in self._troubles.items() if self._is_apt(name, trouble)}
        return self._troubles

    def _is_apt(self, name: str, trouble: Trouble) -> bool:
        op, _, digest = trouble.goal.partition(":")
        want, record = self._desired.containers.get(name), self._ledger.get(name)
        seen = self._observed.containers.get(name)
        if op == Op.DESTROY:
            return record is not None or seen is not None or name in self._observed.unknown
        if op in (Op.STOP, Op.COMPLETE):
            return not over(seen)
        if want is None or want.digest != digest:
            return False
        settled = record is not None and record.digest == digest and seen is not None and seen.running
        return not settled or name in self._workers.busy

    # -- asked for by people ------------------------------------------------------------------------

    async def apply(self, timeout: float = 300.0) -> Outcome:
        """Converge once, beside `run` or without it; over when nothing more will happen by itself."""
        over = await self._drive(self._verdict, timeout)
        return over or out_of_time(self._own_rows(), timeout)

    async def destroy(self, names: Collection[str] | None = None, timeout: float = 300.0) -> Outcome:
        """Take them away with what is nested in them, whatever is desired; None: everything there is.
        Beside `run`, what a file still asks for comes back: callers refuse that first (see `wanted`)."""
        if names is not None:
            self._doomed |= set(names)

        def gone() -> Outcome | None:
            left = self._doomed_left(everything=names is None)
            return None if left else Outcome(0)

        over = await self._drive(gone, timeout, passive=True)
        left = self._doomed_left(everything=names is None)
        self._doomed -= set(names or self._doomed)
        return over or not_gone(self.rows(), left, timeout)

    def wanted(self, names: Collection[str]) -> tuple[str, ...]:
        """Those of the names that the source asks for now."""
        return tuple(name for name in sorted(names) if name in self._desired.containers)

    def approve(self, names: Collection[str] | None = None) -> frozenset[str]:
        """Let held top-level names be deleted; None: all that are held now. Returns those it concerned."""
        approved = self._held if names is None else self._held & frozenset(names)
        self._approved |= approved
        self.wake()
        return approved

    async def _drive(
        self, condition: Callable[[], Outcome | None], timeout: float, *, passive: bool = False
    ) -> Outcome | None:
        """Passes until the condition gives an outcome: those of `run` where it runs, else our own."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await self._next_pass(passive)
                    if (found := condition()) is not None:
                        await self._ledger.drain()
                        return found
                    if not self._running:
                        await self._sleep(self._until_next_look())
        except TimeoutError:
            return None

    async def _next_pass(self, passive: bool) -> None:
        if self._running:
            passed = self._passed
            self.wake()
            await passed.wait()
        else:
            self._wake.clear()
            await self.one_pass(passive=passive)

    def _verdict(self) -> Outcome | None:
        return verdict(self._desired, self._plan, self._own_rows(), {*self._workers.busy, *self._busy_files})

    def _own_rows(self) -> tuple[Row, ...]:
        """Rows of what this source asks for, or asked for."""
        records = self._ledger.recorded.records
        return tuple(
            row
            for row in self._rows.values()
            if row.name not in records
            or records[row.name].origin.source == self._desired.source
            or row.name in self._desired.refusals
        )

    def _doomed_left(self, *, everything: bool) -> frozenset[str]:
        """What is still there of the doomed; everything that is there becomes doomed when so asked."""
        recorded = self._ledger.recorded
        there = {
            *recorded.records,
            *recorded.unreadable,
            *self._observed.containers,
            *self._observed.unknown,
            *self._workers.busy,
        }
        if everything:
            self._doomed = there
        return frozenset(name for name in there if any(is_within(name, one) for one in self._doomed))

    # -- what is told -------------------------------------------------------------------------------

    def rows(self) -> tuple[Row, ...]:
        """One per name, parents first, as of the last pass."""
        return tuple(self._rows.values())

    @property
    def desired(self) -> Desired:
        return self._desired

    @property
    def held(self) -> frozenset[str]:
        """Top-level names whose mass deletion waits for `approve`."""
        return self._held

    def notes(self) -> dict[str, str]:
        """Remarks on the source as a whole, and on its files."""
        notes = dict(self._desired.ignored) | {file: "is still being written" for file in self._busy_files}
        notes |= self._desired.errors
        if self._desired.unknown_reason:
            notes["source"] = self._desired.unknown_reason
        if self._source is not None and self._source.note:
            notes["watch"] = self._source.note
        return notes

    def _publish(self) -> None:
        facts = Facts(
            self._desired,
            self._ledger.recorded,
            self._observed,
            self._plan,
            {name: job.action.op for name, job in self._workers.busy.items()},
            self._troubles,
            self._ledger.sandbox,
        )
        self._rows = rows(facts)
        self._ledger.publish(self._rows.values(), self.notes())

    def _each_tried(self) -> bool:
        """No name is left that was not tried; a pull, or a launch that takes its time, counts as tried."""
        waiting = {action.name for action in self._plan.actions} | self._workers.busy.keys()
        return all(self._is_tried(name) for name in waiting - self._tried)

    def _is_tried(self, name: str) -> bool:
        seen, since = self._observed.containers.get(name), self._first_tried.get(name)
        fetching = seen is not None and seen.state in (ContainerState.FETCHING, ContainerState.PULLING)
        return fetching or (since is not None and self._clock() - since > self.settings.ready_patience)


def is_within(name: str, ancestor: str) -> bool:
    """It is that name, or nested in it."""
    return name == ancestor or name.startswith(ancestor + ".")


def _touches(name: str, names: Collection[str]) -> bool:
    """It, or something it is nested in, is among the names."""
    if not names:
        return False
    labels = name.split(".")
    return any(".".join(labels[:end]) in names for end in range(1, len(labels) + 1))


def _log_transition(before: Record, after: Record) -> None:
    exit = after.life.exit
    if exit is not None and exit != before.life.exit:
        log.info("%s: it %s", after.name, ending(exit))
    elif after.life.started_at is not None and before.life.started_at is None:
        log.info("%s: runs", after.name)
