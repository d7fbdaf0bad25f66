"""Has the health checks of what runs made, each in its own time, and keeps what they found for the passes.

    pass ─follow─▶ a task per check ─▶ Containerizer.check ─▶ health.heard ─▶ another verdict? wake the loop

Invariants: no check waits for another, and none holds up the loop; how many begin at a time is bounded, but one that
hangs gives its place up; checks of many containers spread out instead of falling together. What was found lasts as long
as the run, and the check, it is about.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.errors import ReconcilerError
from reconciler.loop.backoff import SPREAD, jitter
from reconciler.loop.health import Health, Watch, due, heard, judge, unheard, watched
from reconciler.loop.values import Observed, Record
from reconciler.loop.workers import Slots
from reconciler.runtime.containerizer import Containerizer, ContainerStatus
from reconciler.spec.policies import HealthCheck

log = logging.getLogger(__name__)

AT_ONCE = 16
LEASE = 1.0
SHORTEST = 0.1
"""Seconds between two runs of a check at least, whatever its interval."""

Run = tuple[int | None, float | None]


@dataclass(slots=True)
class _Subject:
    """One run of a container and its checks. moved: set, and replaced, whenever one of them found something."""

    run: Run
    watches: tuple[Watch, ...] = ()
    tasks: dict[HealthCheck, asyncio.Task[None]] = field(default_factory=dict)
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, check: HealthCheck) -> Watch:
        return next(watch for watch in self.watches if watch.check == check)

    def put(self, new: Watch) -> None:
        self.watches = tuple(new if watch.check == new.check else watch for watch in self.watches)
        self.moved.set()
        self.moved = asyncio.Event()

    def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()


def _checks(record: Record, seen: ContainerStatus) -> tuple[HealthCheck, ...]:
    """Its spec's; where that has none, its image's."""
    return record.spec.health_checks or tuple(map(HealthCheck.model_validate, seen.health_checks))


class Monitor:
    def __init__(self, containerizer: Containerizer, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        self._containerizer, self._clock, self._wake = containerizer, clock, wake
        self._slots = Slots(AT_ONCE, LEASE)
        self._subjects: dict[str, _Subject] = {}
        self._believed: dict[str, int] = {}

    def believe(self, ready: Mapping[str, int]) -> None:
        """What an earlier agent found ready: name → pid."""
        self._believed = dict(ready)

    def follow(self, records: Mapping[str, Record], observed: Observed) -> dict[str, Health]:
        """Check what runs now, as its recorded spec asks; what is known of it, by name, of those that have checks."""
        checks = {
            name: _checks(records[name], seen)
            for name, seen in observed.containers.items()
            if seen.running and name in records
        }
        checked = {name: found for name, found in checks.items() if found}
        for name in [name for name in self._subjects if name not in checked and name not in observed.unknown]:
            self._subjects.pop(name).close()
        for name, found in checked.items():
            self._look_after(name, found, observed.containers[name])
        return {name: judge(self._subjects[name].watches) for name in checked}

    def watches(self) -> dict[str, tuple[Watch, ...]]:
        return {name: subject.watches for name, subject in self._subjects.items()}

    def close(self) -> None:
        for subject in self._subjects.values():
            subject.close()
        self._subjects.clear()

    def _look_after(self, name: str, checks: tuple[HealthCheck, ...], seen: ContainerStatus) -> None:
        subject, run = self._subjects.get(name), (seen.pid, seen.started_at)
        believed = seen.pid is not None and self._believed.pop(name, None) == seen.pid
        if subject is None or subject.run != run:
            if subject is not None:
                subject.close()
            subject = self._subjects[name] = _Subject(run)
        if tuple(watch.check for watch in subject.watches) == checks:
            return
        subject.watches = watched(checks, subject.watches, self._clock(), believed=believed)
        for gone in subject.tasks.keys() - set(checks):
            subject.tasks.pop(gone).cancel()
        for check in dict.fromkeys(checks):
            if check not in subject.tasks:
                task = asyncio.create_task(self._attend(name, subject, check), name=f"check of {name}")
                subject.tasks[check] = task

    async def _attend(self, name: str, subject: _Subject, check: HealthCheck) -> None:
        began = subject.run[1] or self._clock()
        wait, count = max(began + check.delay - self._clock(), 0.0), 0
        while True:
            await asyncio.sleep(wait + SPREAD * check.interval * jitter(f"{name} {check.what}", count))
            while not due(subject.of(check), subject.watches):
                await subject.moved.wait()
            async with self._slots.lent():
                new = await self._made(name, subject, check)
            before = judge(subject.watches)
            subject.put(new)
            if judge(subject.watches) != before:
                self._wake()
            wait, count = max(check.interval, SHORTEST), count + 1

    async def _made(self, name: str, subject: _Subject, check: HealthCheck) -> Watch:
        try:
            finding = await self._containerizer.check(name, check)
        except ReconcilerError as error:
            return unheard(subject.of(check), error.message, self._clock())
        except OSError as error:
            return unheard(subject.of(check), str(error), self._clock())
        except Exception as error:
            log.error("%s: a check failed in an unforeseen way", name, exc_info=error)
            return unheard(subject.of(check), f"{type(error).__name__}: {error}; see the agent's log", self._clock())
        return heard(subject.of(check), finding, self._clock())
