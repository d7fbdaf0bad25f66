"""The closed vocabulary of what a scenario may ask of the world.

Each check polls until it holds or its deadline is over, then fails with what it last saw. They
trust the kernel (/proc, cgroupfs, inodes) over what the command says, and compare both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import processes
from tests.e2e.world import World

Row = dict[str, Any]
DEADLINE = 10.0
KERNEL = {"mount": "mnt", "network": "net"}  # DESIGN's word → the kernel's; the others are the same


@dataclass(frozen=True, slots=True)
class Instance:
    """One run of a container, told apart by pid and start time."""

    name: str
    pid: int
    start: int

    @property
    def alive(self) -> bool:
        return processes.alive(self.pid, self.start)


def eventually(
    holds: Callable[[], object], what: str, *, within: float = DEADLINE, seen: Callable[[], object] | None = None
) -> None:
    """`holds` must come true; `what` says it as a sentence, `seen` adds what is there instead."""
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() >= deadline
        if holds():
            return
        if late:
            raise AssertionError(f"not within {within:g} s: {what}" + (f"; seen: {seen()}" if seen else ""))
        time.sleep(0.02)


def until(world: World, name: str, holds: Callable[[Row], object], what: str, within: float = DEADLINE) -> Row:
    """The row of `name` as soon as it is as asked for."""
    last: list[Row | None] = [None]

    def look() -> bool:
        last[0] = world.row(name)
        return last[0] is not None and bool(holds(last[0]))

    eventually(look, f"{name}: {what}", within=within, seen=lambda: last[0])
    assert last[0] is not None
    return last[0]


def state(world: World, name: str, status: str, *, within: float = DEADLINE) -> Row:
    """`ps` says so, and a Running container has a living process."""
    row = until(world, name, lambda row: row["status"] == status, f"is {status}", within)
    if status == "Running":
        assert row["pid"] is not None, f"{name} is Running without a pid: {row}"
        assert processes.alive(row["pid"]), f"{name} is Running with a dead pid: {row}"
    return row


def instance(world: World, name: str, *, within: float = DEADLINE) -> Instance:
    """The present run of a container that is or soon will be running."""
    pid = state(world, name, "Running", within=within)["pid"]
    process = processes.read(pid)
    assert process is not None, f"{name}: process {pid} went away while looking"
    return Instance(name, pid, process.start)


def not_restarted(world: World, before: Instance) -> None:
    """Same pid, same start time, still alive and still what `ps` shows."""
    assert before.alive, f"{before.name}: process {before.pid} is gone"
    assert instance(world, before.name) == before


def restarted(world: World, before: Instance, *, by: str = "", within: float = DEADLINE) -> Instance:
    """A new run, the old one gone; `by`: what the agent's log or the row's message names as the cause."""
    until(
        world,
        before.name,
        lambda row: row["status"] == "Running" and row["pid"] not in (None, before.pid),
        f"runs as another process than {before.pid}",
        within,
    )
    assert not before.alive, f"{before.name}: a new instance runs beside process {before.pid}"
    if by:
        told = [line for line in world.log().splitlines() if before.name in line and by in line]
        assert told or by in world.rows()[before.name]["message"], f"{before.name}: nothing names {by!r} as the cause"
    return instance(world, before.name)


def payload(world: World, name: str, argv: Sequence[str]) -> processes.Process:
    """The process with exactly this command line, at or below the container's first process."""
    first = instance(world, name).pid
    found: list[processes.Process] = []

    def look() -> bool:
        own = processes.read(first)
        found[:] = processes.running(argv, [*([own] if own else []), *processes.below(first)])
        return len(found) == 1

    eventually(look, f"{name} has one process {list(argv)} at or below {first}", seen=lambda: found)
    return found[0]


def running(world: World, argv: Sequence[str]) -> int:
    """How many processes that this test session started run `argv` now."""
    return len(processes.running(argv, world.nursery.processes()))


def plan_is_empty(world: World) -> None:
    """Exit 0 and no action."""
    answer = world.reconciler("plan", world.specs, "-o", "json")
    assert answer.returncode == 0, f"plan exits {answer.returncode}: {answer.stdout}{answer.stderr}"
    assert json.loads(answer.stdout)["actions"] == []


def _inode(world: World, who: str, kind: str) -> int:
    """Of a container's first process, compared with what its row says; `host` is this very process."""
    kernel = KERNEL.get(kind, kind)
    if who == "host":
        return processes.namespace("self", kernel)
    row = state(world, who, "Running")
    inode = processes.namespace(row["pid"], kernel)
    assert row["namespaces"].get(kind) == inode, f"{who}: ps says {row['namespaces']}, the kernel {kind}={inode}"
    return inode


def namespace_shared(world: World, name: str, other: str, kind: str) -> None:
    """Both are in one namespace; `other` may be "host"."""
    assert _inode(world, name, kind) == _inode(world, other, kind), f"{name} does not share {kind} with {other}"


def namespace_private(world: World, name: str, *others: str, kind: str) -> None:
    """In a namespace that none of the others is in, the host neither."""
    for other in ("host", *others):
        assert _inode(world, name, kind) != _inode(world, other, kind), f"{name} shares {kind} with {other}"


def gone(world: World, name: str, *was: Instance, within: float = DEADLINE) -> None:
    """No row, no process, no cgroup, no record, no sandbox, no logs."""
    eventually(lambda: world.row(name) is None, f"{name} has left ps", within=within, seen=lambda: world.row(name))
    for each in was:
        assert not each.alive, f"{name}: process {each.pid} outlived it"
    directory = name.replace(".", "/")
    left = [path for path in world.cgroup_paths() if path.endswith(f"/{directory}")]
    assert not left, f"{name}: cgroups are left: {left}"
    assert not (world.root / "containers" / name).exists(), f"{name}: its record, logs or sandbox are left"


def exited(world: World, name: str, code: int | None, signal: int | None = None, *, within: float = DEADLINE) -> Row:
    """The last run ended so."""

    def as_asked(row: Row) -> bool:
        end = row["exit"]
        return end is not None and (end["code"], end["signal"]) == (code, signal)

    return until(world, name, as_asked, f"last run ended with code {code}, signal {signal}", within)


def message_contains(world: World, name: str, *texts: str, within: float = DEADLINE) -> Row:
    return until(world, name, lambda row: all(text in row["message"] for text in texts), f"message has {texts}", within)


def limit(world: World, name: str, *files: str) -> str:
    """The first word that the container's own cgroup says in the first of these control files that exists."""
    row = state(world, name, "Running")
    for path in row["cgroups"].values():
        for file in files:
            if Path(path, file).exists():
                return Path(path, file).read_text().split()[0]
    raise AssertionError(f"{name}: none of {files} in {row['cgroups']}")


def limited(world: World, name: str, value: str, *files: str, within: float = DEADLINE) -> None:
    eventually(
        lambda: limit(world, name, *files) == value,
        f"{name}: {files} is {value}",
        within=within,
        seen=lambda: limit(world, name, *files),
    )
