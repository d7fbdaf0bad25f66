"""The composing containerizer: the configured ones acting as one (composite pattern), as in Mesos.

Each is offered a top-level container in turn, and only NOT_SUPPORTED moves on to the next; a nested one goes to
the owner of its root. A container is LAUNCHING, LAUNCHED or DESTROYING here; one that is being launched can
be destroyed, which also ends the round of offers. One failing containerizer does not take the others down: its
recovery is tried again, later each time, and meanwhile what it may have is unknown, neither launched nor destroyed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from reconciler.errors import ReconcilerError, Retryable
from reconciler.runtime.containerizer import (
    ContainerConfig,
    Containerizer,
    ContainerStatus,
    Finding,
    LaunchResult,
    Termination,
    Usage,
)
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec, ResourceAmounts
    from reconciler.spec.policies import HealthCheck

log = logging.getLogger(__name__)

_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0  # seconds between attempts at a recovery, doubling


class Composed(Enum):
    LAUNCHING = "LAUNCHING"
    LAUNCHED = "LAUNCHED"
    DESTROYING = "DESTROYING"


@dataclass(slots=True)
class _Entry:
    state: Composed
    owner: Containerizer


class ComposingContainerizer:
    name = "composing"

    def __init__(self, containerizers: Sequence[Containerizer], notify: Callable[[str], None] = lambda _: None) -> None:
        """notify: called with a containerizer's name when it was recovered after all."""
        self._containerizers = tuple(containerizers)
        self._notify = notify
        self._entries: dict[str, _Entry] = {}
        self._failed: dict[str, str] = {}
        self._retries: list[asyncio.Task[None]] = []

    async def recover(self) -> None:
        """All in parallel. What cannot be recovered now makes its containers unknown, not absent."""
        recovered = await asyncio.gather(*(self._recover(one, _FIRST_RETRY) for one in self._containerizers))
        for containerizer, done in zip(self._containerizers, recovered, strict=True):
            if not done:
                retry = asyncio.create_task(self._retry(containerizer), name=f"recovery of {containerizer.name}")
                self._retries.append(retry)

    async def _recover(self, containerizer: Containerizer, pause: float) -> bool:
        """pause: until it is tried again if this fails."""
        try:
            await containerizer.recover()
        except (ReconcilerError, OSError) as error:
            why = f"{containerizer.name}: recovery failed: {error}; the next attempt follows {pause:.0f} s later"
            self._failed[containerizer.name] = why
            log.error("%s", why)
            return False
        self._failed.pop(containerizer.name, None)
        for name in containerizer.containers():
            self._entries[name] = _Entry(Composed.LAUNCHED, containerizer)
        return True

    async def _retry(self, containerizer: Containerizer) -> None:
        pause = _FIRST_RETRY
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_RETRY)
            try:
                if await self._recover(containerizer, pause):
                    break
            except Exception:
                log.exception("%s: recovery failed in an unforeseen way", containerizer.name)
        log.info("%s: recovered", containerizer.name)
        self._notify(containerizer.name)

    def refuses(self, spec: ContainerSpec) -> str | None:
        reasons = (containerizer.refuses(spec) for containerizer in self._containerizers)
        return next((reason for reason in reasons if reason is not None), None)

    async def provide(self, spec: ContainerSpec, say: Callable[[str], None]) -> None:
        for containerizer in self._containerizers:  # but for the one that takes the spec, there is nothing to do
            await containerizer.provide(spec, say)

    async def launch(self, config: ContainerConfig) -> LaunchResult:
        known = self._entries.get(config.name)
        if known is not None and (known.state is not Composed.LAUNCHED or config.name in known.owner.containers()):
            return LaunchResult.ALREADY_LAUNCHED
        for containerizer in self._candidates(config):
            if containerizer.name in self._failed:  # it may run that very container already
                raise Retryable(self._failed[containerizer.name], Reason.STATE_UNKNOWN)
            entry = _Entry(Composed.LAUNCHING, containerizer)
            self._entries[config.name] = entry
            try:
                result = await containerizer.launch(config)
            finally:
                self._settle(config.name, entry)
            if result is not LaunchResult.NOT_SUPPORTED:
                return result
            if entry.state is Composed.DESTROYING:
                raise Retryable(f"{config.name} was destroyed while it was launched", Reason.DESTROYED)
        return LaunchResult.NOT_SUPPORTED

    def _candidates(self, config: ContainerConfig) -> Sequence[Containerizer]:
        if config.spec.parent is None:
            return self._containerizers
        root = self._entries.get(config.spec.root)
        if root is None:
            raise Retryable(f"{config.name}: its root {config.spec.root} is not running", Reason.PARENT_NOT_RUNNING)
        return (root.owner,)

    def _settle(self, name: str, entry: _Entry) -> None:
        """After an answer or a failure: the owner knows best whether there is something to look after."""
        if name not in entry.owner.containers():
            self._entries.pop(name, None)
        elif entry.state is Composed.LAUNCHING:
            entry.state = Composed.LAUNCHED

    def _owner(self, name: str) -> Containerizer | None:
        entry = self._entries.get(name)
        if entry is not None:
            return entry.owner
        return next((one for one in self._containerizers if name in one.containers()), None)

    def _known_owner(self, name: str) -> Containerizer | None:
        """Raises Retryable where one that could not recover may have it."""
        owner = self._owner(name)
        if owner is None and self._failed:
            raise Retryable("; ".join(self._failed.values()), Reason.STATE_UNKNOWN)
        return owner

    async def update(self, name: str, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        owner = self._owner(name)
        if owner is None:
            raise Retryable(f"{name} is not known: nothing to update", Reason.STATE_UNKNOWN)
        await owner.update(name, requests, limits)

    async def usage(self, name: str) -> Usage | None:
        owner = self._known_owner(name)
        return await owner.usage(name) if owner else None

    async def status(self, name: str) -> ContainerStatus | None:
        owner = self._known_owner(name)
        return await owner.status(name) if owner else None

    async def wait(self, name: str) -> Termination | None:
        owner = self._owner(name)
        return await owner.wait(name) if owner else None

    async def check(self, name: str, check: HealthCheck) -> Finding:
        owner = self._owner(name)
        if owner is None:
            raise Retryable(f"{name} is not known: nothing to check", Reason.STATE_UNKNOWN)
        return await owner.check(name, check)

    async def kill(self, name: str, signal: int) -> bool:
        owner = self._owner(name)
        return await owner.kill(name, signal) if owner else False

    async def destroy(self, name: str, *, grace: float | None = None) -> Termination | None:
        """Unknown names are asked of everyone: one of them may have left-overs."""
        entry = self._entries.get(name)
        if entry is not None:
            entry.state = Composed.DESTROYING
            termination = await entry.owner.destroy(name, grace=grace)
            gone = set(entry.owner.containers())
            for known in [known for known, other in self._entries.items() if other.owner is entry.owner]:
                if known not in gone:
                    self._entries.pop(known)
            return termination
        self._known_owner(name)  # what would be destroyed must be known
        results = await asyncio.gather(*(one.destroy(name, grace=grace) for one in self._containerizers))
        return next((result for result in results if result is not None), None)

    def containers(self) -> Sequence[str]:
        return sorted({name for containerizer in self._containerizers for name in containerizer.containers()})

    def notes(self) -> Mapping[str, str]:
        notes = {f"containerizer {name}": why for name, why in self._failed.items()}
        for containerizer in self._containerizers:
            notes.update(containerizer.notes())
        return notes

    async def close(self) -> None:
        for retry in self._retries:
            retry.cancel()
        await asyncio.gather(*self._retries, return_exceptions=True)
        closed = await asyncio.gather(*(one.close() for one in self._containerizers), return_exceptions=True)
        for error in closed:  # only once each has let go
            if isinstance(error, BaseException):
                raise error
