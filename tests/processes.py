"""Processes as /proc shows them, and the nursery that keeps every one a test started attributable.

The nursery makes this process the subreaper (prctl(2), PR_SET_CHILD_SUBREAPER) of whatever it
spawns: a daemon, an orphan of a killed keeper, a process that double-forked away all stay below
it in the tree, so "ours" needs no guessing on a machine that others use too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = float(os.environ.get("RECONCILER_TEST_PATIENCE", "1"))  # deadlines of tests are that many times longer
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table; `start` (clock ticks since boot) tells a reused pid apart."""

    pid: int
    start: int
    parent: int
    session: int
    state: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({' '.join(cmdline(self.pid)) or self.command}, state {self.state})"


def names(directory: str) -> list[str]:
    return [path.name for path in Path(directory).iterdir()]


def read(pid: int) -> Process | None:
    """None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Process(pid, int(fields[19]), int(fields[1]), int(fields[3]), fields[0], head.partition("(")[2])


def alive(pid: int, start: int | None = None) -> bool:
    """Whether it still executes; a zombie does not."""
    process = read(pid)
    return process is not None and process.state not in "ZX" and start in (None, process.start)


def table() -> dict[int, Process]:
    found = (read(int(name)) for name in names("/proc") if name.isdigit())
    return {process.pid: process for process in found if process is not None}


SERVERS: set[int] = set()
"""Pids of servers that tests keep for longer than one test: they and what is below them are left by nobody."""


def fetchers(ancestor: int | None = None) -> list[Process]:
    """What fetches uris for that agent, or for ours in this process."""
    found = below(os.getpid() if ancestor is None else ancestor)
    return [each for each in found if "reconciler.runtime.fetcher.child" in " ".join(cmdline(each.pid))]


def below(ancestor: int, processes: Mapping[int, Process] | None = None) -> list[Process]:
    """Every descendant of `ancestor`, parents first; zombies left out."""
    processes = table() if processes is None else processes
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    order, queue = [], list(children.get(ancestor, ()))
    while queue:
        process = queue.pop(0)
        if process.pid in SERVERS:
            continue
        order.append(process)
        queue += children.get(process.pid, ())
    return [process for process in order if process.state not in "ZX"]


def _strings(pid: int, name: str) -> tuple[str, ...]:
    try:
        data = Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return ()
    return tuple(part.decode(errors="replace") for part in data.split(b"\0") if part)


def cmdline(pid: int) -> tuple[str, ...]:
    return _strings(pid, "cmdline")


def environ(pid: int) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in _strings(pid, "environ"))


def namespace(pid: int | str, kind: str) -> int:
    """The inode that identifies the namespace; `kind` as in /proc/PID/ns."""
    return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino


def cgroups(pid: int) -> dict[str, str]:
    """Controllers ("" for version 2) → path, as /proc/PID/cgroup has it."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def running(argv: Sequence[str], among: Iterable[Process]) -> list[Process]:
    """Those whose whole command line is `argv`."""
    return [process for process in among if cmdline(process.pid) == tuple(argv)]


def _set_subreaper(on: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Nursery:
    """Starts processes, adopts what they leave behind, and reaps only what it adopted.

    Children that `spawn` returned are left to their Popen; the lock closes the moment between the
    fork and their registration, in which they would look adopted.
    """

    def __init__(self) -> None:
        self._spawned: dict[int, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._reap_for_ever, name="nursery", daemon=True)

    def __enter__(self) -> Nursery:
        _set_subreaper(True)
        self._thread.start()
        OPEN.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        OPEN.remove(self)
        self._ended.set()
        self._thread.join()
        _set_subreaper(False)

    def spawn(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        with self._lock:
            child = subprocess.Popen(list(argv), text=True, **options)
            self._spawned[child.pid] = child
        return child

    def run(
        self, argv: Sequence[str], *, timeout: float = 60, stdin: str | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Like subprocess.run with captured output; at the timeout the child is killed and TimeoutExpired raised."""
        source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        child = self.spawn(argv, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            out, err = child.communicate(stdin, timeout=timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise
        return subprocess.CompletedProcess(list(argv), child.returncode, out, err)

    def processes(self) -> list[Process]:
        """Everything alive that was ever started from here."""
        return below(os.getpid())

    def _reap_for_ever(self) -> None:
        while not self._ended.wait(0.01):
            with self._lock:
                self._reap()

    def _reap(self) -> None:
        self._spawned = {pid: child for pid, child in self._spawned.items() if child.returncode is None}
        for pid in _children():
            if pid not in self._spawned:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


OPEN: list[Nursery] = []


def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A small tool with captured output; through the open nursery, which would else reap the child as adopted."""
    if OPEN:
        return OPEN[-1].run(argv)
    return subprocess.run(list(argv), check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _children() -> Iterator[int]:
    for thread in names("/proc/self/task"):
        with contextlib.suppress(OSError):
            yield from map(int, Path(f"/proc/self/task/{thread}/children").read_text().split())
