"""One container of ours on an engine, as the containerizer remembers it between two looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.runtime.containerizer import ContainerStatus, Termination
from reconciler.runtime.docker import naming, reading
from reconciler.runtime.kernel import cgroups, proc
from reconciler.states import ContainerState


@dataclass(slots=True)
class Tracked:
    """id: the engine's, "" before it is made; interrupt: ends what its launch waits for; unwanted: it is to be
    destroyed; kill_at: when the grace of its ending is over, by CLOCK_BOOTTIME; missed: since when the engine has it no
    more, monotonic; lock: held by whoever launches or destroys it; over: set once its run has ended."""

    name: str
    id: str = ""
    digest: str = ""
    state: ContainerState | None = None
    pid: int | None = None
    started_at: float | None = None
    termination: Termination | None = None
    kill_signal: str = "SIGTERM"
    grace: float = 3.0
    message: str = ""
    health_checks: tuple[Mapping[str, Any], ...] = ()
    namespaces: dict[str, int] = field(default_factory=dict)
    cgroups: dict[str, str] = field(default_factory=dict)
    interrupt: Callable[[], object] = lambda: None
    unwanted: bool = False
    kill_at: float | None = None
    missed: float | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def status(self) -> ContainerStatus:
        return ContainerStatus(
            name=self.name,
            containerizer="docker",
            state=self.state,
            digest=self.digest,
            pid=self.pid if self.termination is None else None,
            started_at=self.started_at,
            termination=self.termination,
            namespaces=self.namespaces,
            cgroups=self.cgroups,
            message=self.message,
            health_checks=self.health_checks,
        )

    def take_up(self, inspected: Mapping[str, Any], now: float) -> None:
        """Bring it up to what the engine says."""
        state, config = inspected["State"], inspected["Config"]
        self.id = inspected["Id"]
        self.digest = config["Labels"][naming.DIGEST]
        self.kill_signal = config.get("StopSignal") or self.kill_signal
        self.grace = float(config.get("StopTimeout") or self.grace)
        self.health_checks = reading.health_checks(config["Labels"])
        self.started_at = reading.moment(state["StartedAt"])
        if self.termination is not None:
            return  # what was listed before its end says nothing any more
        if not reading.is_alive(inspected):
            self.end(reading.ended(inspected, now))
            return
        if self.pid != state["Pid"]:
            self.pid = state["Pid"]
            self.namespaces = proc.namespaces(state["Pid"])
            self.cgroups = cgroups.directories_of(state["Pid"])
        if self.state is not ContainerState.DESTROYING:
            self.state = ContainerState.RUNNING

    def dismiss(self) -> None:
        """Nobody wants it: its launch, if there is one, goes no further than what it asks of the engine right now."""
        self.unwanted = True
        self.interrupt()

    def end(self, termination: Termination) -> None:
        self.termination, self.state, self.pid = termination, None, None
        self.over.set()
