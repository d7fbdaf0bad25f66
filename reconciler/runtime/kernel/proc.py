"""Reading /proc: who a process is, beyond its pid, which the kernel uses again (proc(5)).

A process is named by (boot id, pid, start time): the start time is in clock ticks since boot, field 22
of /proc/PID/stat, counted after the last ")" because a command name may hold anything.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from reconciler.runtime.kernel.syscalls import NAMESPACES

_PF_EXITING = 0x4


class ProcessStat(NamedTuple):
    """state: one letter (R S D Z X T …); start: clock ticks since boot; exiting: on its way out."""

    pid: int
    state: str
    ppid: int
    session: int
    start: int
    exiting: bool

    @property
    def dead(self) -> bool:
        return self.state in "ZX"


def parse_stat(text: str) -> ProcessStat:
    pid, _, rest = text.partition(" ")
    fields = rest[rest.rindex(")") + 2 :].split()
    return ProcessStat(
        pid=int(pid),
        state=fields[0],
        ppid=int(fields[1]),
        session=int(fields[3]),
        start=int(fields[19]),
        exiting=bool(int(fields[6]) & _PF_EXITING),
    )


class ProcessUsage(NamedTuple):
    """cpu_seconds: its own, and of those of its children that were waited for; resident: bytes; threads: how many."""

    cpu_seconds: float
    resident: int
    threads: int


def read_usage(pid: int) -> ProcessUsage | None:
    """None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    ticks = sum(int(field) for field in fields[11:15])
    return ProcessUsage(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGESIZE"), int(fields[17]))


def read_stat(pid: int) -> ProcessStat | None:
    """None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(pid: int, start: int) -> bool:
    """Whether that very process (not another one with its pid) exists and is no zombie."""
    stat = read_stat(pid)
    return stat is not None and stat.start == start and not stat.dead


def bounding(pid: int) -> int:
    """What programs of that process could have at most, as bits of capabilities. Raises OSError when it is gone."""
    lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:"))


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()


def namespaces(pid: int | str) -> dict[str, int]:
    """Our namespace name → inode, of those that may be read; empty when the process is gone or not ours."""
    found = {}
    for name, (_, link) in NAMESPACES.items():
        try:
            found[name] = os.stat(f"/proc/{pid}/ns/{link}").st_ino
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def descendants(pid: int) -> list[int]:
    """Every process below `pid` at this moment, parents before children."""
    by_parent: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := read_stat(int(entry))) is not None:
            by_parent.setdefault(stat.ppid, []).append(stat.pid)
    found: list[int] = []
    queue = [pid]
    while queue:
        below = by_parent.get(queue.pop(), [])
        found.extend(below)
        queue.extend(below)
    return found


def family(pid: int) -> list[int]:
    """As `descendants`, at a cost that depends on them alone; one that forks just now may be missed."""
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children(queue.pop())
        found.extend(below)
        queue.extend(below)
    return found


def families(firsts: Iterable[int]) -> list[int]:
    """Each of them, and its `family`."""
    return [pid for first in firsts for pid in (first, *family(first))]


def guests(pid: int, parent: int, others: Collection[int | None]) -> list[int]:
    """Children of `parent`, but for the others, that are in the mount namespace of `pid`."""
    own = namespaces(pid).get("mount")
    if own is None:
        return []
    return [each for each in children(parent) if each not in others and namespaces(each).get("mount") == own]


def children(pid: int) -> list[int]:
    """Its direct children, the oldest of each of its threads first."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="utf-8") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended just now
    return found


def own_children() -> list[int]:
    """The direct children of a single-threaded caller."""
    pid = os.getpid()
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return [int(word) for word in file.read().split()]


def pidfd(pid: int) -> int:
    """A descriptor of that process, the caller's to close. Raises ProcessLookupError when there is none: of one that is
    just being reaped, or whose number is but that of its session or of a thread, Linux says EINVAL or ENOENT
    (kernel/pid.c, by version)."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid)) from error
        raise


def pid_of(pidfd: int) -> int:
    """The pid behind a pidfd as seen in the caller's pid namespace; -1 when it was reaped, 0 when not visible."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="utf-8") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    raise OSError(f"/proc/self/fdinfo/{pidfd}: not a pidfd")


def argument_area() -> tuple[int, int]:
    """(address, size) of the caller's own argv strings, fields 48 and 49 of its stat."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        text = file.read()
    fields = text[text.rindex(")") + 2 :].split()
    start, end = int(fields[45]), int(fields[46])
    return start, end - start
