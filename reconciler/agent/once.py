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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.agent import control
from reconciler.agent.lock import AgentAlive, AgentLock, holder, known_owner, owner_id, remembered_flags
from reconciler.agent.options import AgentOptions
from reconciler.agent.paths import Places
from reconciler.agent.store import Store
from reconciler.errors import ReconcilerError
from reconciler.loop.reconciler import Outcome, Reconciler, dry_plan
from reconciler.loop.values import Observed, Plan
from reconciler.runtime.build import build, end, observe
from reconciler.spec.sources.directory import DirectorySource

_STOP_SECONDS = 15.0
_POLL = 0.02


class InTheWay(ReconcilerError):
    """Another agent is. Exit 3."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Applied:
    converged: bool
    messages: tuple[str, ...]


def apply(places: Places, directory: Path, options: AgentOptions, seconds: float) -> Applied:
    """Converge once and leave everything running. Raises InTheWay for an agent on another source."""
    try:
        with AgentLock(places, None, options.remember()):
            outcome = asyncio.run(_apply(places, directory, options, seconds))
            return Applied(outcome.converged, tuple(outcome.messages))
    except AgentAlive as alive:
        if alive.source != str(directory):
            raise InTheWay(f"{alive.message}; stop it, or use another --root") from None
    request = {"op": "apply", "source": str(directory), "timeout": seconds}
    try:
        answer = control.ask(places.control, request, timeout=seconds + 5.0)
    except OSError as error:
        raise ReconcilerError(f"the running agent did not answer: {error}") from error
    return Applied(bool(answer["converged"]), tuple(answer["messages"]))


async def _apply(places: Places, directory: Path, options: AgentOptions, seconds: float) -> Outcome:
    reconciler: Reconciler
    containerizer = build(options.settings(places, owner_id(places)), lambda name: reconciler.wake())
    source = DirectorySource(directory, lambda: None)
    reconciler = Reconciler(source, containerizer, Store(places))
    try:
        await reconciler.start()
        return await reconciler.apply(seconds)
    finally:
        await containerizer.close()


def plan(places: Places, directory: Path, options: AgentOptions) -> tuple[Plan, tuple[str, ...]]:
    """(the plan, errors of the source). Takes no lock and leaves everything as it was."""
    source = DirectorySource(directory, lambda: None)
    seen = observe(options.settings(places, known_owner(places) or "none"))
    return dry_plan(source.list(), source.identity, Store(places).load(), Observed(dict(seen)), time.time())


def destroy(places: Places, names: Sequence[str]) -> None:
    """Raises ReconcilerError for a name that a live agent still wants."""
    try:
        with AgentLock(places, None):
            asyncio.run(_destroy(places, names))
    except AgentAlive:
        control.ask(places.control, {"op": "destroy", "names": list(names)}, timeout=None)


def destroy_all(places: Places) -> None:
    """End the agent, then everything that is ours, and leave nothing but an empty root."""
    if not places.root.is_dir():
        return
    _stop_agent(places)
    with AgentLock(places, None):
        asyncio.run(_destroy(places, None))
        _clear(places)


async def _destroy(places: Places, names: Sequence[str] | None) -> None:
    """None: everything, with the keeper and our cgroup roots."""
    settings = AgentOptions.remembered(remembered_flags(places)).settings(places, owner_id(places))
    containerizer = build(settings, lambda name: None)
    store = Store(places)
    try:
        await containerizer.recover()
        recorded = store.load()
        known = {*recorded.records, *recorded.unreadable, *containerizer.containers()}
        chosen = sorted(known if names is None else {name for name in known if _within(name, names)})
        tops = [name for name in chosen if name.rpartition(".")[0] not in chosen]
        results = await asyncio.gather(*(containerizer.destroy(name) for name in tops), return_exceptions=True)
        failed = {top for top, result in zip(tops, results, strict=True) if isinstance(result, BaseException)}
        for name in sorted(chosen, reverse=True):
            if not any(_within(name, [top]) for top in failed):
                await asyncio.to_thread(store.remove, name)
                (places.rows / f"{name}.json").unlink(missing_ok=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
    finally:
        await containerizer.close()
    if names is None:
        await end(settings)


def _within(name: str, names: Sequence[str]) -> bool:
    return any(name == other or name.startswith(other + ".") for other in names)


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
    shutil.rmtree(places.rows, ignore_errors=True)
    for path in (places.notes, places.control, places.claim):
        path.unlink(missing_ok=True)
    for directory in (places.runtime_dir, places.records):
        with contextlib.suppress(OSError):
            directory.rmdir()
