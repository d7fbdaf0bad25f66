"""What commands do when no daemon does it for them: apply once, plan without a trace, destroy.

Each that changes anything holds the lock meanwhile, so that there is one agent on a root at any time; a live
daemon on the same source is asked instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.agent import control, node, report, sources
from reconciler.agent.lock import AgentAlive, AgentLock, holder, known_owner, owner_id, remembered_flags
from reconciler.agent.options import AgentOptions
from reconciler.agent.paths import Places
from reconciler.agent.sources import SourceChoice
from reconciler.agent.store import Store
from reconciler.errors import ReconcilerError
from reconciler.loop import keeping, suspending
from reconciler.loop.outcome import Outcome
from reconciler.loop.preview import Preview, preview
from reconciler.loop.reconciler import Reconciler
from reconciler.loop.revisions import MARK, rollbacks
from reconciler.loop.settings import Settings
from reconciler.loop.suspending import Suspension
from reconciler.loop.values import DesiredContainer, Op, Refusal, ancestors
from reconciler.runtime.build import build, end, foreseen, refused
from reconciler.runtime.observing import observe
from reconciler.runtime.settings import RuntimeSettings
from reconciler.spec.model import ContainerSpec
from reconciler.spec.sources.patience import Patient
from reconciler.spec.sources.source import Source
from reconciler.states import Reason, Status

_DESTROY_SECONDS = 300.0
_STOP_SECONDS = 15.0
_ANSWER_SECONDS = 5.0
_SETTLE_SECONDS = 1.0
_POLL = 0.02


class InTheWay(ReconcilerError):
    """Another agent is. Exit 3."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Done:
    """code: the exit code; message: why it is not 0, several lines perhaps."""

    code: int
    message: str = ""


def apply(places: Places, choice: SourceChoice, options: AgentOptions, seconds: float) -> Done:
    """Converge once and leave everything running. Raises InTheWay for an agent on another source."""
    try:
        with AgentLock(places, None, options.remember()):
            outcome = asyncio.run(_apply(places, choice, options, seconds))
            return _done(outcome)
    except AgentAlive as alive:
        if alive.source != str(choice):
            raise InTheWay(f"{alive.message}; stop it, or use another --root") from None
    return _ask(places, {"op": "apply", "source": str(choice), "timeout": seconds})


async def _apply(places: Places, choice: SourceChoice, options: AgentOptions, seconds: float) -> Outcome:
    source = sources.build(choice, places, lambda: None)
    reconciler = _reconciler(places, options.settings(places, owner_id(places)), source, node.settings(options))
    try:
        await reconciler.start()
        return await sources.converge(source, reconciler, seconds)
    finally:
        await sources.stop(source)
        await reconciler.close()


def plan(places: Places, choice: SourceChoice, options: AgentOptions) -> Preview:
    """Takes no lock and leaves everything as it was."""
    with sources.looked_at(choice, places) as source:
        stale, listing = source.refresh(), source.list()
        deadline = time.monotonic() + _SETTLE_SECONDS
        while listing.retry_after is not None and time.monotonic() < deadline:
            time.sleep(listing.retry_after)
            listing = source.list()
    settings = options.settings(places, known_owner(places) or "none")
    store, own = Store(places), node.settings(options)
    seen, unknown = observe(places.root, places.runtime_dir, settings.owner)
    found = preview(
        listing,
        store.load(),
        seen,
        source.identity,
        time.time(),
        unknown,
        labels=own.node_labels,
        held=frozenset(store.marks(keeping.MARK)),
        approved=frozenset(store.marks(keeping.APPROVED)),
        restarts_per_hour=own.restarts_per_hour,
        by_command={name: Suspension.of(details) for name, details in store.marks(suspending.MARK).items()},
        rollbacks=rollbacks(store.marks(MARK), store.revisions)[0],
    )
    return _on_this_host(replace(found, stale=stale), settings)


def _on_this_host(found: Preview, settings: RuntimeSettings) -> Preview:
    """Without the starts that would come to nothing here, and with why. What starts after others is not looked at for
    what it may find by then."""
    refusals: dict[str, Refusal] = {}
    absent: set[str] = set()
    actions = []
    first = [action.name for action in found.plan.actions if action.op.starts and not action.after]
    lacking = _lacking({name: found.desired.containers[name].spec for name in first}, settings)
    for action in found.plan.actions:  # parents before their nested, dependencies before what depends on them
        if not action.op.starts:
            actions.append(action)
            continue
        want = found.desired.containers[action.name]
        refusal = _refusal(want, settings, lacking.get(action.name, ""))
        if refusal is not None:
            refusals[action.name] = refusal
        elif absent.isdisjoint(action.after) and not any(action.name.startswith(name + ".") for name in refusals):
            actions.append(action)
            continue
        if action.op is Op.CREATE:  # else what runs of it goes on, and is enough for what depends on it
            absent.add(action.name)
    desired = replace(found.desired, refusals={**found.desired.refusals, **refusals})
    return replace(found, desired=desired, plan=replace(found.plan, actions=tuple(actions)))


def _lacking(specs: Mapping[str, ContainerSpec], settings: RuntimeSettings) -> dict[str, str]:
    """Name → what the host lacks for it now."""
    looks: Patient[str, str] = Patient(lambda name: foreseen(settings, specs[name]))
    found, hung = looks.all(specs)
    return {**found, **dict.fromkeys(hung, "something that it needs of this host does not answer: a file system hangs")}


def _refusal(want: DesiredContainer, settings: RuntimeSettings, lacking: str) -> Refusal | None:
    """Why a start would come to nothing here: never, or as things are now."""
    name, place = want.spec.name, f"{want.origin.file}:{want.origin.line}"
    if never := refused(settings, want.spec):
        message = f"{place}: {'; '.join(never)}"
        return Refusal(name, Status.BLOCKED, Reason.NOT_ON_THIS_LAUNCHER, message, want.origin)
    if lacking:
        return Refusal(name, Status.FAILED, Reason.LAUNCH_FAILED, f"{place}: {lacking}", want.origin)
    return None


def destroy(places: Places, names: Sequence[str]) -> Done:
    """Raises ReconcilerError for a name that a live agent still wants."""
    try:
        with AgentLock(places, None):
            return _done(asyncio.run(_destroy(places, names)))
    except AgentAlive:
        return _ask(places, {"op": "destroy", "names": list(names), "timeout": _DESTROY_SECONDS})


def approve(places: Places, names: Sequence[str] | None) -> frozenset[str]:
    """Without an agent: the next one destroys them, unless a file asks for them again by then. None: all that are held.
    Returns those it concerned. Raises InTheWay for an agent that has just come."""
    rows = report.rows(places)
    held = {row["name"] for row in rows if row["status"] == Status.HELD.value}
    held = {name for name in held if held.isdisjoint(ancestors(name))}
    approved = held if names is None else held & set(names)
    if approved:
        try:
            with AgentLock(places, None):
                for name in sorted(approved):
                    Store(places).mark(keeping.APPROVED, name, {})
        except AgentAlive as alive:
            raise InTheWay(f"{alive.message}; ask it again") from None
    return frozenset(approved)


def suspend(places: Places, names: Sequence[str], by: str) -> Done:
    """Stop them, and keep them stopped until `resume`."""
    suspension = Suspension(by, time.time())
    try:
        with AgentLock(places, None):
            return _done(asyncio.run(_alone(places, lambda loop: loop.suspend(names, suspension, _DESTROY_SECONDS))))
    except AgentAlive:
        return _ask(places, {"op": "suspend", "names": list(names), "by": by, "timeout": _DESTROY_SECONDS})


def resume(places: Places, names: Sequence[str]) -> Done:
    """Without an agent nothing starts before there is one."""
    try:
        with AgentLock(places, None):
            return _done(asyncio.run(_alone(places, lambda loop: loop.resume(names))))
    except AgentAlive:
        return _ask(places, {"op": "resume", "names": list(names), "timeout": _DESTROY_SECONDS})


def roll_back(places: Places, name: str, to: int | None, by: str) -> Done:
    """Have an earlier revision asked for. Without an agent it is the next one that carries it out."""
    try:
        with AgentLock(places, None):
            return _done(asyncio.run(_alone(places, lambda loop: loop.roll_back(name, to, by))))
    except AgentAlive:
        return _ask(places, {"op": "rollback", "name": name, "to": to, "by": by, "timeout": _DESTROY_SECONDS})


def roll_forward(places: Places, name: str) -> Done:
    """Have what the file has asked for again."""
    try:
        with AgentLock(places, None):
            return _done(asyncio.run(_alone(places, lambda loop: loop.roll_forward(name))))
    except AgentAlive:
        return _ask(places, {"op": "rollforward", "name": name, "timeout": _DESTROY_SECONDS})


async def _alone(places: Places, work: Callable[[Reconciler], Awaitable[Outcome]]) -> Outcome:
    """Without a source: nothing is started or pruned."""
    options = AgentOptions.remembered(remembered_flags(places))
    reconciler = _reconciler(places, options.settings(places, owner_id(places)), None, node.settings(options))
    try:
        await reconciler.start()
        return await work(reconciler)
    finally:
        await reconciler.close()


def destroy_all(places: Places) -> Done:
    """End the agent, then everything that is ours, and leave nothing but an empty root."""
    if not places.root.is_dir():
        return Done(0)
    _stop_agent(places)
    with AgentLock(places, None):
        outcome = asyncio.run(_destroy(places, None))
        if outcome.code == 0:
            _clear(places)
    return _done(outcome)


async def _destroy(places: Places, names: Sequence[str] | None) -> Outcome:
    """None: everything, with the keeper and our cgroup roots."""
    outcome = await _alone(places, lambda loop: loop.destroy(names, _DESTROY_SECONDS))
    settings = AgentOptions.remembered(remembered_flags(places)).settings(places, owner_id(places))
    if names is None and outcome.code == 0:
        await end(settings)
    return outcome


def _done(outcome: Outcome) -> Done:
    return Done(outcome.code, outcome.message)


def _reconciler(places: Places, settings: RuntimeSettings, source: Source | None, own: Settings) -> Reconciler:
    made: list[Reconciler] = []

    def notify(name: str) -> None:
        for reconciler in made:
            reconciler.wake()

    made.append(Reconciler(source, build(settings, notify), Store(places), settings=own))
    return made[0]


def _ask(places: Places, request: control.Request) -> Done:
    """Have the live agent do it."""
    try:
        answer = control.ask(places.control, request, timeout=request["timeout"] + _ANSWER_SECONDS)
    except OSError as error:
        raise ReconcilerError(f"the running agent did not answer: {error}") from error
    return Done(int(answer["code"]), str(answer["message"]))


def _stop_agent(places: Places) -> None:
    """SIGTERM to who holds the lock; its containers stay for us to destroy."""
    deadline = time.monotonic() + _STOP_SECONDS
    asked: int | None = None
    while (found := holder(places)) is not None:
        if found.pid is not None and found.pid != asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGTERM)
            asked = found.pid
        if time.monotonic() > deadline:
            raise ReconcilerError(f"the agent (pid {found.pid}) did not end within {_STOP_SECONDS:.0f} s of SIGTERM")
        time.sleep(_POLL)


def _clear(places: Places) -> None:
    """What is left in the runtime directory once no container is."""
    for directory in (places.rows, places.marks, places.sources, places.cache):
        shutil.rmtree(directory, ignore_errors=True)
    for path in (places.notes, places.control, places.claim):
        path.unlink(missing_ok=True)
    for directory in (places.runtime_dir, places.records):
        with contextlib.suppress(OSError):
            directory.rmdir()
