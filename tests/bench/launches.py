"""From the word go to the payload's first act: ours, runc and crun on one bundle, in turns, and the floor beside them.

    ours    MesosContainerizer.launch in a warm agent, through the keeper
    runc    `runc run`, started by this process; so is crun
    floor   clone3 with the same namespaces, chroot, exec: no mounts, no limits, no filter

The filter is Docker's as Docker hands it to a runtime, for three architectures; a second row of each has it for the
native one alone, as ours is. crun 1.8 refuses hosts with both cgroup versions: there it runs in a mount namespace with
a cgroup2 mount only, and sets no limits where the controllers are in v1 hierarchies: it has that much less to do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from reconciler.runtime.kernel import cgroups, mountinfo, syscalls
from reconciler.runtime.launcher.steps import clone_flags
from tests.bench import bundle, table
from tests.bench.bell import PATIENCE, Bell
from tests.bench.table import Series
from tests.bench.warm import CGROUPS

REPOSITORY = Path(__file__).parents[2]
NAMESPACES = ("mount", "pid", "ipc", "cgroup")
OURS, FLOOR, NATIVE = "ours", "floor: clone3 and exec", ", native filter"
_CGROUPS = "/sys/fs/cgroup"
Launch = Callable[[str], float]  # name → milliseconds


class Warm:
    """Our own side, in a process of its own."""

    def __init__(self, base: Path, rootfs: Path, bell: Bell) -> None:
        self._rootfs, self._bell = rootfs, bell
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.warm", str(base)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        if (line := self._process.stdout.readline().strip()) != word:
            raise ChildProcessError(f"our own side said {line!r} instead of {word!r}")

    def launch(self, name: str, *, stays: bool = False, **more: object) -> float:
        """more: of the spec. stays: it runs until the end."""
        argv = ringing(name) if not stays else [*ringing(name)[:2], f"{ringing(name)[2]}; exec sleep 1000000"]
        self._say(f"prepare {name} {json.dumps(bundle.spec(self._rootfs, argv) | more)}")
        self._hear("ready")
        start = time.monotonic_ns()
        self._say("launch")
        took = (self._bell.wait([name], lambda: self._process.poll() is not None) - start) / 1e6
        self._hear("launched")
        if not stays:
            self._say("clear")
            self._hear("cleared")
        return took

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)


def ringing(name: str) -> list[str]:
    return ["/bin/sh", "-c", f"echo {name} >/{bundle.BELL}"]


class Oci:
    """runc or crun. room: the thread that starts it, whose mount namespace it is then in."""

    def __init__(self, program: str, base: Path, rootfs: Path, bell: Bell, *, limits: bool, room: ThreadPoolExecutor):
        self._argv = [program, "--root", str(base / f"{program}-state"), "run", "--bundle"]
        self._bundle, self._sandbox = base / f"{program}-bundle", base / f"{program}-sandbox"
        for directory in (self._bundle, self._sandbox):
            directory.mkdir()
        self._program, self._rootfs, self._bell, self._limits, self._room = program, rootfs, bell, limits, room

    def launch(self, name: str, *, native: bool) -> float:
        cgroup = f"/{CGROUPS}-{self._program}/{name}"
        limits, argv = self._limits, ringing(name)
        config = bundle.oci(self._rootfs, self._sandbox, argv, cgroup, limits=limits, native=native)
        (self._bundle / "config.json").write_text(json.dumps(config))
        return self._room.submit(self._run, name).result()

    def _run(self, name: str) -> float:
        start = time.monotonic_ns()
        process = subprocess.Popen(
            [*self._argv, str(self._bundle), name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            heard = self._bell.wait([name], lambda: process.poll() is not None)
        except TimeoutError as error:
            process.kill()
            said = process.communicate()[0].decode(errors="replace").strip()
            raise ChildProcessError(f"{self._program}: {said or error}") from error
        process.communicate(timeout=PATIENCE)
        return (heard - start) / 1e6


def floor(rootfs: Path, bell: Bell, name: str) -> float:
    """As cheap as it can be: nothing but the namespaces, the root and the exec."""
    argv, flags = ringing(name), clone_flags(list(NAMESPACES))
    start = time.monotonic_ns()
    pid, pidfd = syscalls.clone3(flags, exit_signal=signal.SIGCHLD)
    if pid == 0:
        try:
            os.chroot(rootfs)
            os.execve(argv[0], argv, bundle.ENV)
        finally:
            os._exit(127)
    took = (bell.wait([name]) - start) / 1e6
    os.close(pidfd)
    os.waitpid(pid, 0)
    return took


def only_cgroup2() -> None:
    """This thread, and what it starts, in a mount namespace that has a cgroup2 mount and no other cgroups."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    text = Path("/proc/thread-self/mountinfo").read_text()
    for mount in reversed(mountinfo.parse(text)):
        if mount.fstype.startswith("cgroup") or mount.target == _CGROUPS:
            syscalls.umount(mount.target, syscalls.MNT_DETACH)
    syscalls.mount("none", _CGROUPS, "cgroup2")


def measure(base: Path, count: int) -> None:
    """`count` launches of each, in turns, so that whatever else the machine does hits all alike."""
    rootfs = base / "rootfs"
    bundle.make_rootfs(rootfs)
    with ExitStack() as stack:
        bell = Bell(rootfs / bundle.BELL)
        stack.callback(bell.close)
        warm = Warm(base / "ours", rootfs, bell)
        stack.callback(warm.close)
        kinds: dict[str, Launch] = {OURS: warm.launch}
        notes = []
        for program in ("runc", "crun"):
            if shutil.which(program) is None:
                notes.append(f"{program} is not installed")
                continue
            alone = program == "crun" and any(each.version == 1 for each in cgroups.read_map().hierarchies)
            room = stack.enter_context(ThreadPoolExecutor(1, initializer=only_cgroup2 if alone else None))
            stack.callback(remove_cgroups, f"{CGROUPS}-{program}")
            oci = Oci(program, base, rootfs, bell, limits=not alone, room=room)
            kinds[program] = partial(oci.launch, native=False)
            kinds[program + NATIVE] = partial(oci.launch, native=True)
            if alone:
                notes.append("crun sets no limits here: it takes cgroup v2 alone, which has no such controllers")
        kinds[FLOOR] = partial(floor, rootfs, bell)
        found = in_turns(kinds, count, notes, needed=OURS)
    _print(found, notes)


def in_turns(kinds: dict[str, Launch], count: int, notes: list[str], *, needed: str) -> dict[str, Series]:
    """One more than `count`: the first of each pays for what is then cached. Who cannot do it is left out, unless it is
    the one that is `needed`."""
    values: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(count + 1):
        for kind, launch in list(kinds.items()):
            try:
                values[kind].append(launch(f"{kind.partition(',')[0]}-{len(kind)}-{number}"))
            except ChildProcessError as error:
                if kind == needed:
                    raise
                notes.append(f"{kind} cannot run here: {error}")
                del kinds[kind]
    return {kind: Series(kind, tuple(values[kind][1:])) for kind in kinds if len(values[kind]) > 1}


def _print(found: dict[str, Series], notes: list[str]) -> None:
    table.heading("launch to payload, milliseconds", "n", "min", "p50", "p95", "to ours")
    for each in found.values():
        table.show(each, found[OURS])
    for program, at_most in (("crun", 1.0), ("runc", 0.4)):
        if program in found:
            table.goal(f"{OURS} of {program}", found[OURS].median / found[program].median, at_most)
    for text in notes:
        table.note(text)


def remove_cgroups(name: str) -> None:
    """The empty cgroups below that one and itself, in every hierarchy."""
    for hierarchy in cgroups.read_map().hierarchies:
        for directory in reversed(cgroups.below(f"{hierarchy.mount}/{name}")):
            with suppress(FileNotFoundError):
                Path(directory).rmdir()
