"""Many at once: how long until all run, and what stays beside each of them for as long as it does.

    ours      specs renamed into the directory one after the other, until the last payload has written its name
    podman, docker      a loop of `run -d`, until the last one has returned

Memory is the PSS of what supervises, divided by the containers it supervises: keeper and inits, conmon, containerd's
shims. What is there once however many containers run (agent, dockerd, containerd) is named beside it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import processes
from tests.bench import bundle, engines, table
from tests.bench.agent import Bench
from tests.bench.bell import Bell
from tests.bench.engines import Engine, Unable

SAMPLE = 100  # containers beside which memory is measured
_SLEEP = "exec sleep 100000"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes per container, and of what is there once."""

    each: float
    once: int


@dataclass(frozen=True, slots=True)
class Crowd:
    """seconds: until `count` ran."""

    name: str
    count: int
    seconds: float
    memory: Memory


def ours(base: Path, rootfs: Path, bell: Bell, count: int) -> Crowd:
    bench = Bench(base)
    names = [f"c{number}" for number in range(count)]
    with bench.running():
        argv = {name: ["/bin/sh", "-c", f"echo {name} >/{bundle.BELL}; {_SLEEP}"] for name in names}
        files = [bench.write(name, bundle.spec(rootfs, argv[name])) for name in names]
        start = time.monotonic_ns()
        for file in files:
            bench.drop(file)
        seconds = (bell.wait(names) - start) / 1e9
        keeper = bench.keeper()
        inits = [each.pid for each in processes.table().values() if each.parent == keeper]
        memory = Memory(engines.pss([keeper, *inits]) / count, engines.pss([bench.pid]))
    return Crowd("ours", count, seconds, memory)


def theirs(engine: Engine, rootfs: Path, count: int) -> Crowd:
    """Raises Unable."""
    memory, paused = Memory(0, 0), 0.0
    with engine.ready(rootfs):
        start = time.monotonic()
        for number in range(1, count + 1):
            engine.run(f"c{number}", ["/bin/sh", "-c", _SLEEP])
            if number == min(SAMPLE, count):
                before = time.monotonic()
                memory = _memory(engine, number)
                paused = time.monotonic() - before
        seconds = time.monotonic() - start - paused
    return Crowd(engine.name, count, seconds, memory)


def _memory(engine: Engine, count: int) -> Memory:
    supervisors = engine.pids(engine.supervisor)
    if len(supervisors) < count:
        raise Unable(f"{len(supervisors)} {engine.supervisor} run beside {count} containers")
    daemons = [pid for program in engine.daemons for pid in engine.pids(program)]
    return Memory(engines.pss(supervisors) / count, engines.pss(daemons))


def measure(base: Path, count: int) -> None:
    plain, rootfs = base / "image", base / "rootfs"
    for directory in (plain, rootfs):
        bundle.make_rootfs(directory)
    bell = Bell(rootfs / bundle.BELL)
    try:
        small = ours(base / "small", rootfs, bell, min(SAMPLE, count))
        large = ours(base / "large", rootfs, bell, count)
    finally:
        bell.close()
    found, notes = [], []
    for engine in (engines.Podman(base / "podman"), engines.Docker(base / "docker")):
        try:
            found.append(theirs(engine, plain, count))
        except (Unable, TimeoutError) as error:
            notes.append(f"{engine.name} cannot be measured here: {error}")
    _print_times([large, *found])
    _print_memory([small, *found])
    for text in notes:
        table.note(text)


def _print_times(crowds: Sequence[Crowd]) -> None:
    base = crowds[0]
    table.heading(f"{base.count} containers at once, until all run", "seconds", "ms each", "to ours")
    for each in crowds:
        ratio = f"{each.seconds / base.seconds:.2f} x"
        table.row(each.name, f"{each.seconds:.2f}", f"{1000 * each.seconds / each.count:.1f}", ratio)


def _print_memory(crowds: Sequence[Crowd]) -> None:
    base = crowds[0].memory.each
    table.heading(f"memory beside {crowds[0].count} containers, PSS", "KiB each", "MiB once", "to ours")
    titles = {"ours": "ours: keeper and inits (agent)", "podman": "podman: conmon", "docker": "docker: shims (daemons)"}
    for each in crowds:
        figures = (
            f"{each.memory.each / 1024:.0f}",
            f"{each.memory.once / 2**20:.1f}",
            f"{each.memory.each / base:.2f} x",
        )
        table.row(titles[each.name], *figures)
        if each.name == "podman":
            table.goal("ours of conmon", base / each.memory.each, 1.0)
