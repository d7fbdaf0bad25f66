"""The cgroups of this agent's containers: one directory per container in every hierarchy used.

    <mount>/<cgroups root>/<owner>/shop           limits are written here
                                    ├── _leaf     processes of a v2 hierarchy sit here (those of v1 one level up)
                                    └── web       the nested container shop.web

Nothing outside `<cgroups root>/<owner>` is ever listed, killed or removed, and every operation is idempotent: gone
is success. One hierarchy tracks: whatever a container forks stays in it and can be killed through it at once; the
cgroup2 mount if there is one (cgroup.kill), else v1's freezer. Everything here blocks: callers use threads.
The rules of v2 are those of Documentation/admin-guide/cgroup-v2.rst; the v1 order freeze, kill, thaw is Mesos's.
Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal as signals
import time
from collections.abc import Collection, Iterator

from reconciler.runtime.kernel import cgroups, proc
from reconciler.runtime.kernel.cgroups import UNIFIED, CgroupMap, Hierarchy
from reconciler.runtime.launcher import freezer

DEFAULT_CONTROLLERS = frozenset({"cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "hugetlb", "misc"})
LEAF = "_leaf"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_OWNER = re.compile(r"[A-Za-z0-9][-\w]*")
# the one control file of v1 whose name is a DNS label; a container of that name gets another directory
_RENAMED = {"tasks": "_tasks"}
_ATTEMPTS = 20  # at making directories below roots that another agent may be removing


class CgroupBusy(OSError):
    """A cgroup has processes in it that stop the operation; `pids` are those."""

    def __init__(self, stage: str, directory: str, pids: list[int], cause: str | None = None) -> None:
        who = ", ".join(_describe(pid) for pid in pids[:8]) + (", ..." if len(pids) > 8 else "")
        reason = f"{len(pids)} processes in it: {who}" if pids else cause or "busy, though without processes"
        super().__init__(errno.EBUSY, f"{stage}: {reason}", directory)
        self.pids = pids


class CgroupLost(FileNotFoundError):
    """Somebody removed a cgroup (`filename`) that nothing but another launch can give the container back."""


class CgroupTree:
    """See the module. Hierarchies are known by their names in the map ("unified", "memory", "cpu,cpuacct")."""

    def __init__(
        self,
        cgroup_map: CgroupMap,
        cgroups_root: str,
        owner: str,
        controllers: frozenset[str] = DEFAULT_CONTROLLERS,
    ) -> None:
        tracking = cgroup_map.unified or cgroup_map.hierarchy_of("freezer")
        if tracking is None:
            raise OSError(errno.ENODEV, "no cgroup2 and no v1 freezer is mounted; containers could not be killed", "/")
        wanted = [cgroup_map.hierarchy_of(controller) for controller in sorted(controllers)]
        self.map = cgroup_map
        self.controllers = controllers
        self.tracking = tracking
        self.hierarchies = {each.name: each for each in [tracking, *filter(None, wanted)]}
        self._root = cgroups_root.strip("/")
        self._owner = owner
        if ".." in self._root.split("/") or not self._root or not _OWNER.fullmatch(owner):
            raise ValueError(f"not a cgroup root and owner id: {cgroups_root!r}, {owner!r}")

    # where things are

    def roots(self) -> tuple[str, ...]:
        """The owner's directory in every hierarchy used."""
        return tuple(self._owner_dir(hierarchy) for hierarchy in self.hierarchies.values())

    def version(self, hierarchy: str) -> int:
        return self.hierarchies[hierarchy].version

    def paths(self, name: str) -> dict[str, str]:
        """Hierarchy → the container's own cgroup, where limits are written; whether it exists or not."""
        return {key: self._dir(hierarchy, name) for key, hierarchy in self.hierarchies.items()}

    def process_dirs(self, name: str) -> dict[str, str]:
        """Hierarchy → the cgroup its processes are placed in."""
        return {key: f"{path}/{LEAF}" if self.version(key) == 2 else path for key, path in self.paths(name).items()}

    def tracking_dir(self, name: str) -> str:
        return self._dir(self.tracking, name)

    def open_dirs(self, name: str) -> dict[str, int]:
        """Hierarchy → a descriptor of `process_dirs`, for openat(2) and CLONE_INTO_CGROUP; the caller closes them."""
        fds: dict[str, int] = {}
        try:
            for key, path in self.process_dirs(name).items():
                fds[key] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            for fd in fds.values():
                os.close(fd)
            raise
        return fds

    def _owner_dir(self, hierarchy: Hierarchy) -> str:
        return f"{hierarchy.mount}/{self._root}/{self._owner}"

    def _dir(self, hierarchy: Hierarchy, name: str) -> str:
        labels = name.split(".")
        if not all(_LABEL.fullmatch(label) for label in labels):
            raise ValueError(f"not a container name: {name!r}")
        return "/".join([self._owner_dir(hierarchy), *(_RENAMED.get(label, label) for label in labels)])

    # making

    def create(self, name: str) -> dict[str, str]:
        """Make the container's cgroups; hierarchy → directory. An empty left-over is made anew; one with processes is
        refused (CgroupBusy), or strangers would be killed later. A nested container's parent must exist."""
        paths = self.paths(name)
        parent, _, _ = name.rpartition(".")
        if parent and not os.path.isdir(directory := self.tracking_dir(parent)):
            raise FileNotFoundError(errno.ENOENT, f"no cgroup of {parent}, in which {name} is nested", directory)
        for path in paths.values():
            if left := cgroups.pids_below(path):
                raise CgroupBusy("create: the cgroup already exists", path, left)
        for path in paths.values():
            _rmdir_below(path)
        try:
            for key, path in paths.items():
                self._make(self.hierarchies[key], path, top_level="." not in name)
        except OSError:
            for path in paths.values():
                with contextlib.suppress(OSError):
                    _rmdir_below(path)
            raise
        return paths

    def _make(self, hierarchy: Hierarchy, path: str, *, top_level: bool) -> None:
        """An agent that ends may remove the shared root between two steps of ours: then they are repeated."""
        for attempt in range(_ATTEMPTS):
            try:
                if top_level:
                    os.makedirs(self._owner_dir(hierarchy), exist_ok=True)
                    self._hand_down_cpus(hierarchy)
                if hierarchy.version == 2:
                    self._enable_controllers(hierarchy, os.path.dirname(path))
                os.mkdir(path)
                if hierarchy.version == 2:
                    os.mkdir(f"{path}/{LEAF}")
                return
            except OSError as error:
                if not (top_level and cgroups.gone(error)) or attempt == _ATTEMPTS - 1:
                    raise

    def _hand_down_cpus(self, hierarchy: Hierarchy) -> None:
        """A new cpuset of v1 is empty, and takes no process; have all below the owner's begin as their parent's."""
        owner = self._owner_dir(hierarchy)
        if hierarchy.version != 1 or "cpuset" not in hierarchy.controllers:
            return
        if cgroups.read(owner, "cgroup.clone_children") == "1":
            return
        above = level = hierarchy.mount
        for part in os.path.relpath(owner, hierarchy.mount).split("/"):
            level = f"{level}/{part}"
            for file in ("cpuset.cpus", "cpuset.mems"):
                if not cgroups.read(level, file):
                    cgroups.write(level, file, cgroups.read(above, file))
            above = level
        cgroups.write(owner, "cgroup.clone_children", "1")

    def _enable_controllers(self, hierarchy: Hierarchy, parent: str) -> None:
        """Hand down the controllers asked for, level by level from the hierarchy's root to `parent`."""
        wanted = cgroups.controllers_v2(self.controllers & hierarchy.controllers)
        if not wanted:
            return
        level = hierarchy.mount
        for part in ["", *os.path.relpath(parent, hierarchy.mount).split("/")]:
            level = os.path.join(level, part).rstrip("/")
            enabled = cgroups.read(level, "cgroup.subtree_control").split()
            if missing := sorted(wanted.difference(enabled)):
                _enable(level, missing)

    # ending

    def kill(self, name: str) -> None:
        """SIGKILL everything in the container and nested in it, fork storms, stopped and frozen processes included."""
        path = self.tracking_dir(name)
        if self.tracking.version == 1:
            freezer.kill(path)
            return
        try:
            cgroups.write(path, "cgroup.kill", "1")
        except OSError as error:
            if not cgroups.gone(error):
                raise

    def signal(self, name: str, number: int) -> int:
        """Send a signal to every process in the container and nested in it; returns how many got it. Not atomic."""
        sent = 0
        for pid in self.pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signals.Signals(number))
                sent += 1
        return sent

    def pids(self, name: str) -> list[int]:
        """Host pids in the container and nested in it."""
        return cgroups.pids_below(self.tracking_dir(name))

    def populated(self, name: str) -> bool:
        return cgroups.populated(self.tracking_dir(name))

    def strays(self, name: str, pids: Collection[int]) -> dict[str, list[int]]:
        """Hierarchy → those of the container's processes that are not in its cgroup: somebody moved them out."""
        found = {}
        for key, path in self.paths(name).items():
            inside = set(cgroups.pids_below(path))
            # one that ended between the two looks is in no cgroup either
            away = [pid for pid in pids if pid not in inside and (stat := proc.read_stat(pid)) and not stat.dead]
            if away:
                found[key] = away
        return found

    def gather(self, name: str, pids: Collection[int]) -> dict[str, str]:
        """Bring the strays back; the container's `paths`. A cgroup that was removed behind them, or that an earlier
        release had no use for, is made, without limits as yet; but for that which also says what devices may be used,
        and for which there is only another launch (CgroupLost)."""
        for key, away in self.strays(name, pids).items():
            hierarchy, path = self.hierarchies[key], self.paths(name)[key]
            if not os.path.isdir(path):
                if hierarchy is self.tracking or "devices" in hierarchy.controllers:
                    raise CgroupLost(errno.ENOENT, f"the cgroup of {name} was removed", path)
                self._make(hierarchy, path, top_level="." not in name)
            for pid in away:
                try:
                    cgroups.write(self.process_dirs(name)[key], "cgroup.procs", pid)
                except OSError as error:
                    if error.errno != errno.ESRCH:
                        raise
        if (unified := self.hierarchies.get(UNIFIED)) is not None:
            self._enable_controllers(unified, os.path.dirname(self.paths(name)[UNIFIED]))
        return self.paths(name)

    def remove(self, name: str, timeout: float) -> None:
        """Remove the container's cgroups and those nested in it, in every hierarchy of the host, within `timeout`
        seconds: processes that were just killed take a moment to leave. Raises CgroupBusy naming what is in the way."""
        deadline = time.monotonic() + timeout
        for hierarchy in self.map.hierarchies:
            path = self._dir(hierarchy, name)
            for pause in _pauses():
                try:
                    _rmdir_below(path)
                    break
                except OSError as error:
                    if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                        raise
                    if time.monotonic() + pause >= deadline:
                        stuck = cgroups.pids_below(path)
                        raise CgroupBusy("remove cgroup", path, stuck, error.strerror) from None
                time.sleep(pause)

    def remove_roots(self) -> None:
        """Remove the owner's cgroup and the root shared by agents, where they are empty. Others may come and go."""
        for hierarchy in self.map.hierarchies:
            path = self._owner_dir(hierarchy)
            while path != hierarchy.mount:
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                        raise
                    break
                path = os.path.dirname(path)

    # looking

    def list(self) -> set[str]:
        """Every container that has a cgroup of ours in any hierarchy of the host, nested ones included. Cgroups whose
        names are no container's (made by a payload that was given cgroups) are passed over."""
        return {name for each in self.map.hierarchies for name in _names(self._owner_dir(each), "")}


def _names(directory: str, prefix: str) -> Iterator[str]:
    real = {renamed: label for label, renamed in _RENAMED.items()}
    try:
        with os.scandir(directory) as entries:
            found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for entry in found:
        label = real.get(entry, entry)
        if _LABEL.fullmatch(label):
            yield prefix + label
            yield from _names(f"{directory}/{entry}", f"{prefix}{label}.")


def _enable(level: str, controllers: list[str]) -> None:
    """All in one write; when that fails one by one, so that the error names the one it is about."""
    try:
        cgroups.write(level, "cgroup.subtree_control", " ".join(f"+{each}" for each in controllers))
    except OSError as error:
        if len(controllers) == 1 or (cgroups.gone(error) and not os.path.isdir(level)):
            raise
        for each in controllers:
            cgroups.write(level, "cgroup.subtree_control", f"+{each}")


def _rmdir_below(path: str) -> None:
    """Remove the cgroup and all in it, deepest first; gone is success."""
    for directory in reversed(cgroups.below(path)):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(directory)


def _pauses() -> Iterator[float]:
    """Between looks at something that takes microseconds as a rule and seconds at worst."""
    pause = 0.0005
    while True:
        yield pause
        pause = min(pause * 1.5, 0.05)


def _describe(pid: int) -> str:
    stat = proc.read_stat(pid)
    return f"{pid} (state {stat.state})" if stat else f"{pid} (gone by now)"
