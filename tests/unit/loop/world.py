"""A world without kernel, disk and waiting: a virtual clock, containers in memory, records in a map.

The containers outlive the reconciler, as real ones do, and the world itself notices when two instances of
one name run, or a nested one without its parent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reconciler.errors import LaunchFailed, Retryable
from reconciler.loop.events import Event
from reconciler.loop.reconciler import Reconciler, Settings
from reconciler.loop.revisions import Revision
from reconciler.loop.values import Record, Recorded, Row
from reconciler.runtime.containerizer import ContainerConfig, ContainerStatus, Finding, LaunchResult, Termination, Usage
from reconciler.spec.model import ContainerSpec, ResourceAmounts
from reconciler.spec.policies import HealthCheck
from reconciler.spec.sources.listing import Listing
from reconciler.states import ContainerState, Reason
from tests.unit.loop.values import NOW, SOURCE, listing

MOST_TURNS = 50_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while there is something to do, and jumps to the next timer when there is not."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._turns = 0  # since time moved

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except OSError as error:
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        pending = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and pending:  # type: ignore[attr-defined]
            self._now = max(self._now, min(pending))
            self._turns = 0
        self._turns += 1
        assert self._turns < MOST_TURNS, "it is busy for ever, and no time goes by"
        super()._run_once()  # type: ignore[misc]


def play(scene: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene)


def clock() -> float:
    return NOW + asyncio.get_running_loop().time()


@dataclass
class Behaviour:
    """How one name behaves. `launch_error`, `destroy_error`: raised as long as they are set."""

    launch_seconds: float = 0.0
    launch_error: Exception | None = None
    pull_seconds: float = 0.0
    pull_error: Exception | None = None
    destroy_seconds: float = 0.0
    destroy_error: Exception | None = None
    usage: Usage = field(default_factory=dict)
    update_error: Exception | None = None
    silent: bool = False
    supported: bool = True
    refusal: str | None = None
    check_seconds: float = 0.0
    findings: dict[str, bool | Exception] = field(default_factory=dict)
    runs_as: str | None = None  # the digest of what runs instead of what was asked for


@dataclass
class Containers:
    """The Containerizer's side of the world."""

    known: dict[str, ContainerStatus] = field(default_factory=dict)
    configs: dict[str, ContainerConfig] = field(default_factory=dict)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    launches: Counter[str] = field(default_factory=Counter)
    provided: Counter[str] = field(default_factory=Counter)
    pulling: set[str] = field(default_factory=set)
    updates: list[tuple[str, ResourceAmounts]] = field(default_factory=list)
    checks: list[tuple[str, str, float]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    on_change: Callable[[], None] = lambda: None
    name: str = "fake"
    unrecovered: str = ""  # why it knows nothing of its containers

    def of(self, name: str) -> Behaviour:
        return self.behaviours.setdefault(name, Behaviour())

    async def recover(self) -> None:
        for name, status in list(self.known.items()):
            if status.state is ContainerState.PREPARING:
                del self.known[name]

    def refuses(self, spec: ContainerSpec) -> str | None:
        return self.of(spec.name).refusal

    async def provide(self, spec: ContainerSpec, say: Callable[[str], None]) -> None:
        behaviour = self.of(spec.name)
        self.provided[spec.name] += 1
        if behaviour.pull_seconds:
            say("pulling it")
        self.pulling.add(spec.name)
        try:
            await asyncio.sleep(behaviour.pull_seconds)
        finally:
            self.pulling.remove(spec.name)
        if behaviour.pull_error is not None:
            raise behaviour.pull_error

    async def launch(self, config: ContainerConfig) -> LaunchResult:
        name, behaviour = config.name, self.of(config.name)
        if not behaviour.supported:
            return LaunchResult.NOT_SUPPORTED
        if name in self.known:
            self.faults.append(f"{name}: launched while {self.known[name].state} was still there")
        parent = self.known.get(config.spec.parent or "")
        if config.spec.parent and parent is None:
            self.faults.append(f"{name}: launched without its parent")
        elif parent is not None and not parent.running:  # it ended since it was looked at
            raise Retryable(f"{name}: its parent is not running", Reason.PARENT_NOT_RUNNING)
        digest = behaviour.runs_as or config.digest
        self.known[name] = ContainerStatus(name, self.name, ContainerState.PREPARING, digest)
        self.configs[name] = config
        await asyncio.sleep(behaviour.launch_seconds)
        if isinstance(error := behaviour.launch_error, LaunchFailed):
            self._ended(name, Termination(error.code, None, Reason.LAUNCH_FAILED, clock(), error.message))
        if error is not None:
            raise error
        self.launches[name] += 1
        started = replace(self.known[name], state=ContainerState.RUNNING, pid=100 + self.launches.total())
        self.known[name] = replace(started, started_at=clock())
        return LaunchResult.LAUNCHED

    async def update(self, name: str, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        if (error := self.of(name).update_error) is not None:
            raise error
        self.updates.append((name, limits))

    async def usage(self, name: str) -> Usage | None:
        return self.of(name).usage

    async def status(self, name: str) -> ContainerStatus | None:
        if self.unrecovered:
            raise Retryable(self.unrecovered, Reason.STATE_UNKNOWN)
        if self.of(name).silent:
            await asyncio.Event().wait()
        return self.known.get(name)

    async def wait(self, name: str) -> Termination | None:
        raise NotImplementedError

    async def check(self, name: str, check: HealthCheck) -> Finding:
        behaviour = self.of(name)
        self.checks.append((name, check.what, clock()))
        await asyncio.sleep(behaviour.check_seconds)
        found = behaviour.findings.get(check.what, True)
        if isinstance(found, Exception):
            raise found
        return Finding(found, "fine" if found else "refused")

    async def kill(self, name: str, signal: int) -> bool:
        raise NotImplementedError

    async def destroy(self, name: str, *, grace: float | None = None) -> Termination | None:
        for nested in [other for other in self.known if other.rpartition(".")[0] == name]:
            await self.destroy(nested)
        if name in self.known and self.known[name].running:
            self.known[name] = replace(self.known[name], state=ContainerState.DESTROYING)
        await asyncio.sleep(self.of(name).destroy_seconds)
        if (error := self.of(name).destroy_error) is not None:
            raise error
        status = self.known.pop(name, None)
        return status.termination if status else None

    def containers(self) -> Sequence[str]:
        return [] if self.unrecovered else list(self.known)

    def notes(self) -> Mapping[str, str]:
        return {"containerizer": self.unrecovered} if self.unrecovered else {}

    async def close(self) -> None:
        return None

    def end(self, name: str, code: int | None = 0, signal: int | None = None) -> None:
        """The payload ends, and everything nested in it."""
        reason = Reason.EXITED if signal is None else Reason.SIGNALED
        for other in [other for other in self.known if other.startswith(name + ".") and self.known[other].running]:
            self._ended(other, Termination(None, 9, Reason.SIGNALED, clock()))
        self._ended(name, Termination(None if signal else code, signal, reason, clock()))
        self.on_change()

    def _ended(self, name: str, termination: Termination) -> None:
        self.known[name] = replace(self.known[name], state=None, pid=None, termination=termination)

    def running(self) -> set[str]:
        return {name for name, status in self.known.items() if status.running}


@dataclass
class Records:
    """The Journal's side of the world."""

    kept: dict[str, Record] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    told: list[Event] = field(default_factory=list)
    marked: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    history: dict[str, tuple[Revision, ...]] = field(default_factory=dict)
    saves: int = 0
    full: bool = False

    def load(self) -> Recorded:
        return Recorded(dict(self.kept))

    def ready(self) -> dict[str, int]:
        return {row.name: row.pid for row in self.rows.values() if row.ready and row.pid}

    def save(self, record: Record) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.saves += 1
        self.kept[record.name] = record

    def remove(self, name: str) -> None:
        self.kept.pop(name, None)
        self.history.pop(name, None)

    def revisions(self, name: str) -> tuple[Revision, ...]:
        return self.history.get(name, ())

    def remember(self, name: str, kept: Sequence[Revision]) -> None:
        self.history[name] = tuple(kept)

    def marks(self, kind: str) -> Mapping[str, Mapping[str, Any]]:
        return dict(self.marked.get(kind, {}))

    def mark(self, kind: str, name: str, details: Mapping[str, Any] | None) -> None:
        marks = self.marked.setdefault(kind, {})
        marks.pop(name, None)
        if details is not None:
            marks[name] = dict(details)

    def sandbox(self, name: str) -> Path:
        return Path("/sandboxes") / name

    def logs(self, name: str) -> Path:
        return Path("/logs") / name

    def flush(self) -> None:
        return None

    def publish(self, rows: Iterable[Row], notes: Mapping[str, str], told: Sequence[Event]) -> None:
        self.told += told
        self.rows = {row.name: row for row in rows}
        self.notes = dict(notes)


@dataclass
class Files:
    """The Source's side of the world: file → text. `answer` replaces the listing."""

    texts: dict[str, str] = field(default_factory=dict)
    answer: Listing | None = None
    identity: str = SOURCE
    note: str = ""

    def list(self) -> Listing:
        return self.answer or listing(self.texts)


@dataclass
class World:
    files: Files = field(default_factory=Files)
    containers: Containers = field(default_factory=Containers)
    records: Records = field(default_factory=Records)
    settings: Settings = field(default_factory=Settings)

    def reconciler(self) -> Reconciler:
        made = Reconciler(self.files, self.containers, self.records, clock, self.settings)
        self.containers.on_change = made.wake
        return made

    async def agent(self) -> Agent:
        reconciler = self.reconciler()
        await reconciler.start()
        return Agent(reconciler)

    def status(self, name: str) -> str:
        return self.records.rows[name].status.value if name in self.records.rows else "gone"


class Agent:
    """A running reconciler that can be woken, waited for, and killed."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        self._task = asyncio.create_task(reconciler.run(self.stop, self.ready.set))

    async def until(self, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        """Seconds of virtual time, in which nothing is slept away."""
        self.reconciler.wake()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not condition():
            assert loop.time() < deadline, "it did not come to that"
            await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """As by SIGKILL: nothing of it goes on, nothing is tidied up."""
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
