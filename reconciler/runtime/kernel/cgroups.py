"""Which cgroup hierarchies this host has, and reading and writing their control files (cgroups(7)).

`CgroupMap` answers "where does controller X live" for pure v1 (with its co-mounts), hybrid and pure v2 hosts alike,
from mountinfo alone: directory names under /sys/fs/cgroup mean nothing. Everybody else writes through that map
and branches on no version. A failed write says which file, which value, and what the kernel means by it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.runtime.kernel import mountinfo

UNIFIED = "unified"

# what is a controller among the super options of a v1 mount; the rest (rw, xattr, release_agent=...) is not
_CONTROLLERS_V1 = {
    *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb"),
    *("memory", "misc", "net_cls", "net_prio", "perf_event", "pids", "rdma"),
}
# controllers of v1 that v2 has under another name, or always has
_NAMES_V2: Mapping[str, str] = {"cpuacct": "cpu", "blkio": "io"}

_MEANING = {
    errno.EBUSY: "in use: a v2 cgroup with processes of its own cannot hand controllers down, a limit cannot go "
    "below present usage, a cgroup with processes or children cannot be removed",
    errno.EINVAL: "the kernel does not take that value here",
    errno.ENOENT: "no such cgroup or controller, it may have been removed meanwhile",
    errno.ENODEV: "the cgroup was removed meanwhile",
    errno.EOPNOTSUPP: "not possible in a threaded or invalid cgroup",
    errno.EACCES: "needs root or a delegated cgroup",
    errno.EROFS: "the hierarchy is mounted read-only",
}


class ControlError(OSError):
    """A control file could not be read or written; `filename` and, for writes, `value` say which and what."""

    value: str | None = None

    def __str__(self) -> str:
        what = "read" if self.value is None else f"write {self.value!r} to"
        meaning = _MEANING.get(self.errno or 0)
        return f"cannot {what} {self.filename}: {self.strerror}" + (f" ({meaning})" if meaning else "")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One tree of cgroups. name: "unified", the controllers joined by commas, or the name of a named v1 hierarchy;
    controllers: as v1 calls them (a cgroup2 with `cpu` counts as having `cpuacct`, with `io` as having `blkio`)."""

    name: str
    version: int
    mount: str
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class CgroupMap:
    hierarchies: tuple[Hierarchy, ...]

    def hierarchy_of(self, controller: str) -> Hierarchy | None:
        """Where that controller lives; None when this kernel or host has it nowhere."""
        return next((each for each in self.hierarchies if controller in each.controllers), None)

    @property
    def unified(self) -> Hierarchy | None:
        return next((each for each in self.hierarchies if each.version == 2), None)

    def without_unified(self) -> CgroupMap:
        """The same host as if it had no cgroup2 mount."""
        return CgroupMap(tuple(each for each in self.hierarchies if each.version == 1))


def parse_map(text: str, controllers_v2: Mapping[str, str]) -> CgroupMap:
    """From the text of mountinfo, and the text of `cgroup.controllers` at each cgroup2 mount point.

    Of several mounts of one hierarchy the first that shows its root counts."""
    found: dict[str, Hierarchy] = {}
    mounts = mountinfo.parse(text)
    for mount in sorted(mounts, key=lambda each: each.root != "/"):
        if mount.fstype == "cgroup2":
            names = controllers_v2.get(mount.target, "").split()
            aliases = [old for old, new in _NAMES_V2.items() if new in names]
            hierarchy = Hierarchy(UNIFIED, 2, mount.target, frozenset([*names, *aliases]))
        elif mount.fstype == "cgroup":
            controllers = mount.super_options & _CONTROLLERS_V1
            hierarchy = Hierarchy(_name_v1(controllers, mount.super_options), 1, mount.target, controllers)
        else:
            continue
        found.setdefault(hierarchy.name, hierarchy)
    return CgroupMap(tuple(found.values()))


def _name_v1(controllers: frozenset[str], options: frozenset[str]) -> str:
    named = next((option.removeprefix("name=") for option in options if option.startswith("name=")), "cgroup")
    return ",".join(sorted(controllers)) or named


def read_map() -> CgroupMap:
    """The map of this host, as this process sees it."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    targets = [mount.target for mount in mountinfo.parse(text) if mount.fstype == "cgroup2"]
    return parse_map(text, {target: read(target, "cgroup.controllers") for target in targets})


def directories_of(pid: int) -> dict[str, str]:
    """Hierarchy → the directory that the process sits in (/proc/PID/cgroup, cgroups(7)); {} when it is gone."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    mounts = {each.name: each.mount for each in read_map().hierarchies}
    found = {}
    for _, controllers, path in lines:
        name = ",".join(sorted(controllers.split(","))) if controllers else UNIFIED
        name = name.removeprefix("name=")
        if name in mounts:
            found[name] = mounts[name] + path.rstrip("/")
    return found


def controllers_v2(controllers: Iterable[str]) -> frozenset[str]:
    """What those controllers are called in cgroup.subtree_control."""
    return frozenset(_NAMES_V2.get(controller, controller) for controller in controllers)


def read(directory: str | int, file: str) -> str:
    """The text of a control file, in the cgroup given by path or by an open directory; stripped."""
    try:
        fd = _open(directory, file, os.O_RDONLY)
    except OSError as error:
        raise _failed(error, directory, file, None) from None
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    except OSError as error:  # ENODEV: the cgroup went away after the open
        raise _failed(error, directory, file, None) from None
    finally:
        os.close(fd)
    return b"".join(chunks).decode().strip()


def write(directory: str | int, file: str, value: str | int) -> None:
    """One write(2), as cgroupfs wants it."""
    try:
        fd = _open(directory, file, os.O_WRONLY)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise _failed(error, directory, file, str(value)) from None


def _open(directory: str | int, file: str, flags: int) -> int:
    if isinstance(directory, int):
        return os.open(file, flags | os.O_CLOEXEC, dir_fd=directory)
    return os.open(f"{directory}/{file}", flags | os.O_CLOEXEC)


def _failed(error: OSError, directory: str | int, file: str, value: str | None) -> ControlError:
    where = os.readlink(f"/proc/self/fd/{directory}") if isinstance(directory, int) else directory
    failed = ControlError(error.errno, error.strerror, f"{where}/{file}")
    failed.value = value
    return failed


def table(text: str) -> dict[str, int]:
    """A flat keyed file (`memory.events`, `cpu.stat`, `memory.oom_control`): key → number; other lines left out."""
    return {key: int(value) for key, value in re.findall(r"^(\S+) (\d+)$", text, re.MULTILINE)}


def pids(directory: str | int) -> list[int]:
    """The processes in that very cgroup, not in those below; none when it is gone."""
    try:
        return sorted({int(word) for word in read(directory, "cgroup.procs").split()})
    except OSError as error:
        if gone(error):
            return []
        raise


def below(directory: str) -> list[str]:
    """The cgroup and every cgroup in it, parents first; nothing when it is gone."""
    found, at = [directory] if os.path.isdir(directory) else [], 0
    while at < len(found):
        try:
            with os.scandir(found[at]) as entries:
                found += sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            pass
        at += 1
    return found


def pids_below(directory: str) -> list[int]:
    """The processes in that cgroup and in all below it."""
    return sorted({pid for each in below(directory) for pid in pids(each)})


def populated(directory: str) -> bool:
    """Whether a live process is in that cgroup or below it; zombies do not count; a missing cgroup is empty."""
    try:
        return table(read(directory, "cgroup.events")).get("populated", 0) == 1
    except OSError as error:
        if not gone(error):
            raise
    return bool(pids_below(directory))


def gone(error: OSError) -> bool:
    """Whether it says that the cgroup, or that file of it, does not exist (any more)."""
    return error.errno in (errno.ENOENT, errno.ENODEV)
