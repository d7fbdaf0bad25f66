"""Carries one action out for one name: the only code that tells a containerizer to do something.

    start:    have its image at hand ▸ ask the hooks ▸ (still wanted?) ▸ end what is left of it ▸ (still wanted?)
              ▸ record ▸ launch ▸ record the start
    destroy:  record that it is being removed ▸ end it ▸ tell the hooks ▸ forget it

Invariants: no launch before the name's last instance is certainly gone and its record is saved; every call
has a time limit; no decision is taken here, what fails becomes a Trouble or a run in the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.errors import LaunchFailed, ParentEnded, ReconcilerError, Terminal, Unsupported
from reconciler.loop import backoff, life
from reconciler.loop.digests import launch_digest
from reconciler.loop.ledger import Ledger
from reconciler.loop.ordering import end_stages
from reconciler.loop.values import Action, DesiredContainer, Life, Op, Record, Trouble
from reconciler.loop.workers import Ending, Job, Slots, Stage, Superseded
from reconciler.runtime.containerizer import ContainerConfig, LaunchResult, Runtime, Termination
from reconciler.runtime.hooks.hooks import Hooks
from reconciler.spec.model import ContainerSpec
from reconciler.spec.normal import SCHEMA
from reconciler.spec.tasks import resources
from reconciler.states import Reason

log = logging.getLogger(__name__)

_REMOVALS = 3
"""How often hooks are told of a removal that they fail at."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds; the one of an end is added to the container's own grace, and `fetch` to a launch that has
    something to fetch, which is given up much earlier when it stalls."""

    launch: float = 120.0
    fetch: float = 6 * 3600.0
    end: float = 60.0
    update: float = 20.0


class Operations:
    def __init__(
        self,
        *,
        containerizer: Runtime,
        ledger: Ledger,
        slots: Slots,
        limits: Limits,
        hooks: Hooks,
        clock: Callable[[], float],
        wanted: Callable[[str], DesiredContainer | None],
        attempts: Callable[[Action], int],
        told: Callable[[], None],
    ) -> None:
        """told: called when a job has something new to say."""
        self._containerizer = containerizer
        self._ledger = ledger
        self._slots = slots
        self._limits = limits
        self._hooks = hooks
        self._clock = clock
        self._wanted = wanted
        self._attempts = attempts
        self._told = told

    async def perform(self, job: Job) -> Ending:
        action = job.action
        log.info("%s: %s: %s", action.name, action.op.value, action.cause)
        try:
            return await self._dispatch(job)
        except (Terminal, Unsupported) as error:
            return self._trouble(action, error.reason, error.message, terminal=True)
        except ReconcilerError as error:
            return self._trouble(action, error.reason, error.message)
        except TimeoutError:
            what = f"{action.op.value} took too long while it was {job.stage.value}"
            return self._trouble(action, self._reason(action), what)
        except OSError as error:
            return self._trouble(action, self._reason(action), f"{action.op.value}: {error}")

    async def _dispatch(self, job: Job) -> Ending:
        match job.action.op:
            case Op.CREATE | Op.RESTART:
                return await self._start(job)
            case Op.DESTROY:
                await self._destroy(job)
            case Op.FAIL:
                await self._fail(job)
            case Op.STOP | Op.COMPLETE | Op.SUSPEND | Op.EXPIRE:
                await self._stop(job)
            case Op.UPDATE | Op.RECORD | Op.ADOPT:
                return await self._change(job)
        return None

    def trouble_of(self, action: Action, error: BaseException) -> Trouble:
        """For what nobody foresaw: the name's own trouble, tried again later."""
        message = f"{action.op.value} failed in an unforeseen way, {type(error).__name__}: {error}; see the agent's log"
        return self._trouble(action, self._reason(action), message)

    def _trouble(self, action: Action, reason: Reason, message: str, *, terminal: bool = False) -> Trouble:
        attempts, now = self._attempts(action) + 1, self._clock()
        wait = backoff.delay(backoff.trouble(reason), attempts, backoff.jitter(action.name, attempts))
        log.warning("%s: %s: %s", action.name, action.op.value, message)
        return Trouble(action.goal, reason, message, now, attempts, None if terminal else now + wait, terminal)

    @staticmethod
    def _reason(action: Action) -> Reason:
        return Reason.DESTROY_FAILED if action.op.ends else Reason.LAUNCH_FAILED

    # -- starting -----------------------------------------------------------------------------------

    async def _start(self, job: Job) -> Ending:
        name = job.action.name
        want = self._wanted(name)
        if want is not None and (refused := self._containerizer.refuses(want.spec)) is not None:
            raise Unsupported(refused)  # before what runs is ended for it: the last good version goes on
        env: Mapping[str, str] = {}
        if want is not None:
            await self._provide(job, want.spec)
            job.stage = Stage.ASKING
            env = await self._hooks.pre_launch(want.spec, self._ledger.sandbox(name))
            want = self._wanted(name)
            if job.superseded or want is None or want.digest != job.action.digest:
                return Superseded.SUPERSEDED
        exit = await self._end(job) if name in self._containerizer.containers() else None
        want = self._wanted(name)
        if job.superseded or want is None or want.digest != job.action.digest:
            return Superseded.SUPERSEDED
        job.stage = Stage.WAITING
        async with self._slots.lent():
            record = self._begin(job.action, want, exit)
            job.stage = Stage.LAUNCHING
            return await self._launch(record, job.action, env)

    async def _provide(self, job: Job, spec: ContainerSpec) -> None:
        """Before what runs is ended, and without a slot: a pull may take its time, and may fail."""

        def say(what: str) -> None:
            job.said = what
            self._told()

        job.stage = Stage.PROVIDING
        try:
            await self._containerizer.provide(spec, say)
        finally:
            job.said = ""

    def _begin(self, action: Action, want: DesiredContainer, exit: Termination | None) -> Record:
        """The record that the launch is made from."""
        old = self._ledger.get(action.name)
        if old is None:
            generation, history = 1, Life()
        elif action.renew:
            self._renew_below(action.name)
            generation, history = old.generation + 1, life.renewed(exit or old.life.exit)
        else:
            self._rerun_below(action.name)
            generation, history = old.generation, _between_runs(old.life, exit)
        record = Record(
            action.name, SCHEMA, want.spec, want.digest, generation, want.origin, history, contents=want.contents
        )
        self._ledger.save(record)
        return record

    def _renew_below(self, name: str) -> None:
        """A new generation of a parent is one of its tree."""
        for nested in self._ledger.below(name):
            self._ledger.save(_renewed_with_parent(nested, self._clock()))

    def _rerun_below(self, name: str) -> None:
        """Each start of a parent runs its init containers, and what is nested in those."""
        again: tuple[str, ...] = ()
        for nested in self._ledger.below(name):  # parents before their nested
            if nested.spec.init_container or nested.spec.parent in again:
                again += (nested.name,)
                if nested.life.starts:
                    self._ledger.save(replace(nested, life=life.renewed(nested.life.exit)))

    async def _launch(self, record: Record, action: Action, env: Mapping[str, str]) -> Ending:
        name = record.name
        config = ContainerConfig(
            record.spec,
            launch_digest(record.spec, record.digest),
            self._ledger.sandbox(name),
            self._ledger.logs(name),
            base=Path(record.origin.file).parent,
            env=env,
        )
        try:
            limit = self._limits.launch + (self._limits.fetch if record.spec.uris else 0.0)
            async with asyncio.timeout(limit):
                result = await self._containerizer.launch(config)
        except LaunchFailed as error:
            log.warning("%s: launch failed: %s", name, error.message)
            now = self._clock()
            failed = Termination(error.code, None, Reason.LAUNCH_FAILED, now, error.message)
            self._ledger.save(replace(record, life=life.launch_failed(record.life, record.spec, failed, now)))
            return None
        except ParentEnded as error:
            log.info("%s: %s", name, error.message)
            now = self._clock()
            ended = Termination(None, None, Reason.PARENT_ENDED, now, error.message)
            history = life.ended_with_parent(life.started(record.life, now), record.spec, ended, now)
            self._ledger.save(replace(record, life=history))
            return None
        if result is LaunchResult.NOT_SUPPORTED:
            message = f"no containerizer takes a container of type {record.spec.type}"
            return self._trouble(action, Reason.NO_CONTAINERIZER, message, terminal=True)
        self._ledger.save(replace(record, life=life.started(record.life, self._clock())))
        return None

    # -- changing -----------------------------------------------------------------------------------

    async def _change(self, job: Job) -> Ending:
        action, want = job.action, self._wanted(job.action.name)
        if job.superseded or want is None or want.digest != action.digest:
            return Superseded.SUPERSEDED
        old = self._ledger.get(action.name)
        if old is None:
            self._ledger.save(
                Record(action.name, SCHEMA, want.spec, want.digest, 1, want.origin, contents=want.contents)
            )
            return None
        if action.op is Op.UPDATE:
            job.stage = Stage.CHANGING
            amounts = resources(want.spec)
            async with asyncio.timeout(self._limits.update):
                if want.spec.executor is not None:
                    await self._containerizer.assign(action.name, want.spec)
                await self._containerizer.update(action.name, amounts.requests, amounts.limits)
        history = life.revised(old.life, want.spec) if old.digest != want.digest else old.life
        changed = replace(
            old,
            schema=SCHEMA,
            spec=want.spec,
            digest=want.digest,
            origin=want.origin,
            life=history,
            contents=want.contents,
        )
        if action.renew:
            self._renew_below(action.name)
            changed = replace(changed, generation=old.generation + 1, life=life.renewed(old.life.exit))
        self._ledger.save(changed)
        return None

    # -- ending -------------------------------------------------------------------------------------

    async def _end(self, job: Job) -> Termination | None:
        """It and everything nested in it, gone. The graces of a tree may follow one another."""
        name = job.action.name
        job.stage = Stage.ENDING
        tree = (self._ledger.get(name), *self._ledger.below(name))
        grace = sum(_grace(record.spec) for record in tree if record is not None)
        async with asyncio.timeout(grace + self._limits.end):
            for stage in end_stages(record.spec for record in self._ledger.below(name)):
                await asyncio.gather(*map(self._containerizer.destroy, stage))
            return await self._containerizer.destroy(name)

    async def _destroy(self, job: Job) -> None:
        name = job.action.name
        record = self._ledger.get(name)
        if record is not None and not record.deleting:
            self._ledger.save(replace(record, deleting=True))
        await self._end(job)
        await self._tell_the_hooks(job)
        await self._ledger.forget(name)

    async def _tell_the_hooks(self, job: Job) -> None:
        """That it is gone for good. A hook that goes on failing keeps nothing for ever."""
        record = self._ledger.get(job.action.name)
        if record is None:
            return
        try:
            await self._hooks.remove(record.spec, self._ledger.sandbox(record.name))
        except ReconcilerError as error:
            if self._attempts(job.action) + 1 < _REMOVALS:
                raise
            log.error("%s: %s; it was asked %d times", record.name, error.message, _REMOVALS)

    async def _stop(self, job: Job) -> None:
        name = job.action.name
        exit = await self._end(job)
        record, now = self._ledger.get(name), self._clock()
        if record is None:
            return
        match job.action.op:
            case Op.COMPLETE:
                history = life.held_to_the_end(record.life, now)
            case Op.SUSPEND:
                history = life.suspended(record.life, record.spec, exit, now)
            case Op.EXPIRE:
                history = life.expired(record.life, record.spec, exit, now)
            case _:
                history = life.ended_with_parent(record.life, record.spec, exit, now)
        self._ledger.save(replace(record, life=history))

    async def _fail(self, job: Job) -> None:
        """Counted before it is ended: an agent that dies in between must not take a graceful exit for a success."""
        record, why = self._ledger.get(job.action.name), job.action.cause
        if record is None:
            return
        self._ledger.save(replace(record, life=life.condemned(record.life, record.spec, None, why, self._clock())))
        exit = await self._end(job)
        history = life.condemned(record.life, record.spec, exit, why, self._clock())
        self._ledger.save(replace(record, life=history))


def _grace(spec: ContainerSpec) -> float:
    shutdown = spec.executor.shutdown_grace_period if spec.executor is not None else 0.0
    return shutdown + spec.kill_policy.grace_period


def _renewed_with_parent(nested: Record, now: float) -> Record:
    """Of class debug: over, with the run of the parent that it was for."""
    if nested.spec.class_ == "debug":
        history = life.ended_with_parent(nested.life, nested.spec, None, now)
        return nested if nested.life.finished or not nested.life.starts else replace(nested, life=history)
    return replace(nested, generation=nested.generation + 1, life=life.renewed(nested.life.exit))


def _between_runs(history: Life, exit: Termination | None) -> Life:
    """A run that we ended ourselves to start anew is no failure; one that ended before is accounted for."""
    if history.started_at is None:
        return history
    return replace(history, started_at=None, exit=replace(exit, reason=Reason.DESTROYED) if exit else history.exit)
