"""The loop as the agent sees it: start it, let it run, wake it, ask it for something.

    wake ─▶ pass ─▶ sleep until the next hint, worker's end, timer or resync ─▶ pass …

Invariants: level-triggered, many wakes make one pass and no wake is lost; a fault in a pass is logged, and
another pass follows; ending the loop ends no container.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from reconciler.loop import texts
from reconciler.loop.events import rollback_ended, rolled_back
from reconciler.loop.health import Watch
from reconciler.loop.outcome import Outcome, not_gone, not_stopped, out_of_time, verdict
from reconciler.loop.passes import Passes, is_within
from reconciler.loop.revisions import Rollback, chosen, in_force, reverted
from reconciler.loop.settings import Settings
from reconciler.loop.suspending import Suspension
from reconciler.loop.values import Desired, Journal, Plan, Row
from reconciler.runtime.containerizer import Runtime
from reconciler.spec.sources.source import Source

log = logging.getLogger(__name__)


class Reconciler:
    """`source` None: nothing is asked for; only `destroy` and `suspend` have an effect. `wake`: from any thread."""

    def __init__(
        self,
        source: Source | None,
        containerizer: Runtime,
        journal: Journal,
        clock: Callable[[], float] = time.time,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._containerizer = containerizer
        self._clock = clock
        self._passes = Passes(source, containerizer, journal, clock, self.settings, self.wake)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._passed = asyncio.Event()
        self._running = False

    async def start(self) -> None:
        """Rebuild what is known: the containerizer's containers, then our records."""
        self._loop = asyncio.get_running_loop()
        # the default is a handful per core: as many calls stuck in the kernel would hold up every other
        self._loop.set_default_executor(ThreadPoolExecutor(self.settings.threads, thread_name_prefix="work"))
        async with asyncio.timeout(self.settings.recover):
            await self._containerizer.recover()
        self._passes.ledger.load()
        self._passes.monitor.believe(self._passes.ledger.ready())

    def wake(self) -> None:
        """Look again soon."""
        loop = self._loop
        if loop is None or loop.is_closed():
            self._wake.set()
            return
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._wake.set()
        else:
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
                if not told and sound and self._passes.each_tried():
                    told = True
                    ready()
                await self._sleep(self._until_next_look() if sound else self.settings.resync)
        finally:
            self._running = False
            self._announce_pass()
            stopping.cancel()

    async def close(self) -> None:
        """Let workers come to an end, write what is to be written, let go. Containers stay."""
        await self._passes.workers.finish(self.settings.close_grace)
        try:
            await self._passes.ledger.drain()
        except OSError as error:
            log.error("records could not be made durable: %s", error)
        self._passes.close()
        await self._containerizer.close()

    async def one_pass(self, *, passive: bool = False) -> Plan:
        """`passive`: what the source asks for is left aside; only what is doomed is acted on."""
        return await self._passes.one_pass(passive=passive)

    # -- what people ask for --------------------------------------------------------------------------

    async def apply(self, seconds: float = 300.0) -> Outcome:
        """Converge once, beside `run` or without it; over when nothing more will happen by itself."""
        found = await self._drive(self._verdict, seconds)
        return found or out_of_time(self._passes.own_rows(), seconds)

    async def destroy(self, names: Collection[str] | None = None, seconds: float = 300.0) -> Outcome:
        """Take them away with what is nested in them, whatever is desired; None: everything there is.
        Beside `run`, what a file still asks for comes back: callers refuse that first (see `wanted`)."""
        passes = self._passes
        passes.doomed |= set(names) if names is not None else passes.there()
        found = await self._drive(lambda: None if self._left(names) else Outcome(0), seconds, passive=True)
        left = self._left(names)
        passes.doomed -= set(names) if names is not None else passes.doomed
        return found or not_gone(self.rows(), left, seconds)

    def wanted(self, names: Collection[str]) -> tuple[str, ...]:
        """Those of the names that the source asks for now, so that they would come back at once."""
        asked = self.desired.containers.keys() & set(names) - self.desired.kept.keys()
        return tuple(sorted(asked - self._passes.suspended(asked).keys()))

    async def suspend(self, names: Collection[str], suspension: Suspension, seconds: float = 300.0) -> Outcome:
        """Stop them with what is nested in them, and keep them stopped; over when nothing of it runs."""
        passes = self._passes
        for name in names:
            if name not in passes.ledger.suspended:
                passes.ledger.suspend(name, suspension)
        found = await self._drive(lambda: None if passes.active(names) else Outcome(0), seconds, passive=True)
        return found or not_stopped(self.rows(), passes.active(names), seconds)

    async def resume(self, names: Collection[str], seconds: float = 60.0) -> Outcome:
        """Let them run again, as far as this is up to a command; it does not wait until they do."""
        passes = self._passes
        for name in passes.ledger.suspended.keys() & set(names):
            passes.ledger.suspend(name, None)
        found = await self._drive(lambda: Outcome(0), seconds, passive=True)
        still = [f"{name} is still {why}" for name, why in sorted(passes.suspended(names).items())]
        return Outcome(1, (), "\n".join(still)) if still else found or out_of_time((), seconds)

    async def roll_back(self, name: str, to: int | None, by: str, seconds: float = 60.0) -> Outcome:
        """Have an earlier revision asked for instead of what the file has now; it does not wait until that runs.
        to: its number; None: the one before that in force."""
        await self._drive(lambda: Outcome(0), seconds, passive=True)  # with the file as it is by now
        ledger = self._passes.ledger
        kept, back = ledger.revisions(name), ledger.rollbacks.get(name)
        tree = {record.name: record for record in (ledger.get(name), *ledger.below(name)) if record is not None}
        now = in_force(kept, tree, back.rollback if back else None)
        found = chosen(name, kept, now, to)
        if isinstance(found, str):
            return Outcome(1, (), found)
        if found.number == now:
            return Outcome(0, (), f"{name} is at revision {now} already")
        if found.digest == kept[-1].digest:
            return await self.roll_forward(name, seconds)
        sound = reverted(Rollback(found.number, kept[-1].digest, by, self._clock()), kept)
        if isinstance(sound, str):
            return Outcome(1, (), f"{name} cannot go back: {sound}")
        ledger.roll_back(name, sound)
        ledger.tell(rolled_back(name, found.number, by, self._clock()))
        done = Outcome(0, (), f"{name} is {texts.rolled_back(found.number, kept[-1].origin.file)}")
        return await self._drive(lambda: done, seconds, passive=True) or out_of_time((), seconds)

    async def roll_forward(self, name: str, seconds: float = 60.0) -> Outcome:
        """Take a rollback back: what the file has is asked for again."""
        ledger = self._passes.ledger
        if name not in ledger.rollbacks:
            return Outcome(0, (), f"{name} is not rolled back")
        ledger.roll_back(name, None)
        ledger.tell(rollback_ended(name, "taken back by command", self._clock()))
        return await self._drive(lambda: Outcome(0), seconds, passive=True) or out_of_time((), seconds)

    def approve(self, names: Collection[str] | None = None) -> frozenset[str]:
        """Let names that are held be destroyed; None: all that are held now. Returns those it concerned."""
        approved = self._passes.approve(names)
        self.wake()
        return approved

    def rows(self) -> tuple[Row, ...]:
        """One per name, parents first, as of the last pass."""
        return tuple(self._passes.rows.values())

    def notes(self) -> dict[str, str]:
        """Remarks on the source ("source", "watch") and on its files (by path)."""
        return self._passes.notes()

    def figures(self) -> Mapping[str, object]:
        """What the loop counts of itself, as JSON has it."""
        return self._passes.figures.as_json(self._passes.present())

    def checks(self) -> dict[str, tuple[Watch, ...]]:
        """What health checks found, each the last time, of what runs and has any."""
        return self._passes.monitor.watches()

    @property
    def desired(self) -> Desired:
        return self._passes.desired

    @property
    def held(self) -> frozenset[str]:
        """Names whose end waits for `approve`."""
        return self._passes.held

    # -- driving --------------------------------------------------------------------------------------

    async def _guarded_pass(self) -> bool:
        """A pass in a task of its own, so that whatever goes wrong in it is seen here as a result."""
        task, clock = asyncio.create_task(self.one_pass(), name="pass"), asyncio.get_running_loop().time
        begun = clock()
        await asyncio.wait({task})
        self._passes.figures.passed(clock() - begun, self._clock(), sound=task.exception() is None)
        if (error := task.exception()) is None:
            return True
        log.error("this pass failed, another follows", exc_info=error)
        return False

    def _announce_pass(self) -> None:
        self._passed.set()
        self._passed = asyncio.Event()

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.001)):
                await self._wake.wait()

    def _until_next_look(self) -> float:
        waits = [self.settings.resync]
        if self._passes.plan.wake_at is not None:
            waits.append(self._passes.plan.wake_at - self._clock())
        if self._passes.retry_after is not None:
            waits.append(self._passes.retry_after)
        return min(waits)

    async def _drive(
        self, condition: Callable[[], Outcome | None], seconds: float, *, passive: bool = False
    ) -> Outcome | None:
        """Passes until the condition gives an outcome: those of `run` where it runs, else our own. One at once, the
        next ones as there is something to see, for what is waited for may take its time."""
        self.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await self._next_pass(passive)
                    if (found := condition()) is not None:
                        return found
                    if not self._running:
                        await self._sleep(self._until_next_look())
        return None

    async def _next_pass(self, passive: bool) -> None:
        if self._running:
            await self._passed.wait()
        else:
            self._wake.clear()
            await self.one_pass(passive=passive)

    def _verdict(self) -> Outcome | None:
        passes = self._passes
        busy = {*passes.workers.busy, *passes.busy_files, *passes.unsettled}
        return verdict(passes.desired, passes.plan, passes.own_rows(), busy)

    def _left(self, names: Collection[str] | None) -> frozenset[str]:
        """What is still there of what is to go; everything that is there is doomed when so asked."""
        there = self._passes.there()
        if names is None:
            if there - self._passes.doomed:
                self._passes.doomed |= there
                self.wake()
            return there
        return frozenset(name for name in there if any(is_within(name, one) for one in names))
