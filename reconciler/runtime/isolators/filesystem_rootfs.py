"""The steps that give a container a root file system of its own: what `filesystem/linux` plans where there is a rootfs.

Order, and why:
  1. slave        nothing mounted below reaches the host
  2. take         the tree, the sandbox and what else is the host's, while the host's paths are still there
  3. root         from here on every path is resolved inside it
  4. directories  all that is made in the tree itself, before
  5. read-only    which then covers the tree and nothing that is mounted later
  6. proc, sys, cgroups, dev, shm, mqueue: each on an ordinary directory, a link there is an error
  7. sandbox      after proc and sys, so that a link into them is seen for what it is; and the volumes (volumes.py)
  8. protect, mask: last, nothing may be mounted over them
  9. pivot        the host's tree is gone
 10. streams      the container's own /dev/null in place of the host's

No device works but those that /dev begins with: all else is mounted nodev, because root in a container may make nodes.
Masked and read-only paths are those of Docker 28 (oci/defaults.go).

In a mapped user namespace tree and sandbox keep their owners, nothing works as a device but what /dev begins with,
however privileged, and the kernel makes no fresh proc, sysfs or cgroup file system for namespaces that are the host's:
the host's own are taken. With the host's ipc there is then no /dev/mqueue; mq_overview(7) works without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.runtime.isolators.namespaces import mapped, of_the_host
from reconciler.runtime.isolators.volumes import place
from reconciler.runtime.kernel.cgroups import UNIFIED, Hierarchy
from reconciler.runtime.launcher.root_steps import DEVICES, ROOT
from reconciler.spec.namespaces import TABLE, Sharing, effective

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.runtime.isolators.isolator import Context

Step = dict[str, Any]

SANDBOX = "/mnt/mesos/sandbox"  # as in Mesos
_ORDINARY = ("/proc", "/sys", "/dev")
POINTS = (*_ORDINARY, SANDBOX)
"""Directories that every root has; one that cannot be written to must have them already."""
SHM_SIZE = 64 * 1024 * 1024

_QUIET = ["nosuid", "nodev", "noexec"]
_CGROUPS = "/sys/fs/cgroup"
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}
_PROTECTED = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_CPUS, _MASKED_OF_EACH = Path("/sys/devices/system/cpu"), "cpu*/thermal_throttle"


def masked_paths() -> tuple[str, ...]:
    """Those of this machine."""
    return (*_MASKED, *sorted(map(str, _CPUS.glob(_MASKED_OF_EACH))))


@dataclass(frozen=True, slots=True)
class Host:
    """What the plan needs to know of this host. masked: what is hidden from containers."""

    hierarchies: tuple[Hierarchy, ...]
    masked: tuple[str, ...]


def steps(config: ContainerConfig, rootfs: Path, host: Host, context: Context) -> list[Step]:
    """From `take` to `streams`; what comes before is the same with and without a rootfs."""
    spec = config.spec
    top, beneath = config.sandbox_place
    privileged = spec.security.privileged
    foreign = frozenset(kind for kind in TABLE if mapped(config, context) and of_the_host(kind, config, context))
    nodev = [] if privileged and not mapped(config, context) else ["nodev"]
    tree: Step = {"op": "take", "source": str(rootfs), "as": ROOT, "recursive": True, "idmap": True, "flags": nodev}
    if config.tree is not None:
        tree = config.tree.step(ROOT, nodev)
    sandbox: Step = {"op": "take", "source": top, "as": "sandbox", "idmap": True, "flags": nodev}
    cgroups = _Cgroups.seen(host.hierarchies, context.cgroups, effective(spec)["cgroup"], "cgroup" in foreign)
    found: list[Step] = [tree, sandbox | ({"beneath": beneath} if beneath else {}), *_taken_shm(config)]
    found += [*cgroups.taken(), *_taken_of_the_kernel(foreign)]
    found.append({"op": "root"})
    found.append({"op": "directories", "ordinary": list(_ORDINARY), "targets": [SANDBOX]})
    if spec.security.read_only_rootfs:
        found.append(place("points"))
        found.append({"op": "readonly", "in": "root", "target": "/", "recursive": True})
    found.append(_put("/proc") if "pid" in foreign else _fresh("proc", "/proc", _QUIET))
    sysfs = _fresh("sysfs", "/sys", _QUIET if privileged else [*_QUIET, "ro"])
    found.append(_put("/sys") if "network" in foreign else sysfs)
    found += cgroups.mounted()
    found += _dev(config, nodev)
    if "ipc" not in foreign:
        found.append(_fresh("mqueue", "/dev/mqueue", _QUIET))
    found += [place("below"), {"op": "put", "in": "root", "what": "sandbox", "target": SANDBOX}, place("volumes")]
    if not privileged:
        found.append({"op": "protect", "targets": list(_PROTECTED)})
        found.append({"op": "mask", "null": "/dev/null", "targets": list(host.masked)})
    return [*found, {"op": "pivot"}, {"op": "streams"}]


def _fresh(fstype: str, target: str, flags: list[str], **options: str | None) -> Step:
    step: Step = {"op": "fresh", "type": fstype, "target": target, "flags": flags}
    return step | ({"options": options} if options else {})


def _put(place: str) -> Step:
    """What was taken of the same place on the host."""
    return {"op": "put", "in": ROOT, "ordinary": True, "what": _role(place), "target": place}


def _role(place: str) -> str:
    return place.strip("/").replace("/", "-")


def _taken(place: str, *flags: str) -> Step:
    return {"op": "take", "source": place, "as": _role(place), "flags": [*_QUIET, *flags]}


def _taken_of_the_kernel(foreign: frozenset[str]) -> list[Step]:
    found = [_taken("/proc")] if "pid" in foreign else []
    return [*found, *([_taken("/sys", "ro")] if "network" in foreign else [])]


def _taken_shm(config: ContainerConfig) -> list[Step]:
    """Of the parent or the host, where the ipc namespace is shared: POSIX shared memory is part of it."""
    sharing = effective(config.spec)["ipc"]
    step: Step = {"op": "take", "source": "/dev/shm", "as": "shm", "flags": _QUIET}
    if sharing is Sharing.PRIVATE:
        return []
    return [step | ({"of": "parent"} if sharing is Sharing.PARENT else {})]


def _dev(config: ContainerConfig, nodev: list[str]) -> list[Step]:
    shm: Step = {"op": "put", "in": "root", "what": "shm", "target": "/dev/shm"}
    if effective(config.spec)["ipc"] is Sharing.PRIVATE:
        size = config.spec.namespaces.shm_size or SHM_SIZE
        shm = _fresh("tmpfs", "/dev/shm", _QUIET, mode="1777", size=str(size))
    return [
        _fresh("tmpfs", "/dev", ["nosuid", *nodev], mode="755", size="64m"),
        {"op": "nodes", "target": "/dev", "devices": list(DEVICES), "links": _LINKS},
        _fresh("devpts", "/dev/pts", ["nosuid", "noexec"], newinstance=None, ptmxmode="0666", mode="0620", gid="5"),
        shm,
    ]


@dataclass(frozen=True, slots=True)
class _Cgroups:
    """What is shown of the cgroup hierarchies, read-only: those that the container has a cgroup of its own in, from
    there down; all of the host's where it shares the host's cgroup namespace.

    The root of a v2 namespace is the child cgroup that the processes sit in; the limits are one above, so that
    directory is mounted itself. A fresh v1 mount begins at the root of the namespace by itself."""

    v1: tuple[Hierarchy, ...]
    unified: Hierarchy | None
    directory: str | None
    foreign: bool

    @classmethod
    def seen(
        cls, hierarchies: Sequence[Hierarchy], own: Mapping[str, str], sharing: Sharing, foreign: bool
    ) -> _Cgroups:
        """foreign: no fresh mount can be had, see above."""
        shown = [each for each in hierarchies if sharing is Sharing.HOST or each.name in own]
        unified = next((each for each in shown if each.version == 2), None)
        directory = None if unified is None or sharing is Sharing.HOST else own[unified.name]
        if directory is not None and sharing is Sharing.PARENT:
            directory = str(Path(directory).parent)
        return cls(tuple(each for each in shown if each.version == 1), unified, directory, foreign)

    def taken(self) -> list[Step]:
        found: list[Step] = [_taken(each.mount, "ro") | {"as": each.name} for each in self.v1 if self.foreign]
        directory = self.directory
        if directory is None and self.unified is not None and self.foreign:
            directory = self.unified.mount
        if directory is not None:
            found.append({"op": "take", "source": directory, "as": UNIFIED, "flags": [*_QUIET, "ro"]})
        return found

    def mounted(self) -> list[Step]:
        if not self.v1:
            return self._mounted_unified(_CGROUPS)
        found = [_fresh("tmpfs", _CGROUPS, _QUIET, mode="755", size="64k")]
        for each in self.v1:
            options: dict[str, str | None] = dict.fromkeys(sorted(each.controllers))
            if not options:
                options = {"none": None, "name": each.name}
            fresh = _fresh("cgroup", _place(each), [*_QUIET, "ro"], **options)
            bound = {"op": "put", "in": ROOT, "ordinary": True, "what": each.name, "target": _place(each)}
            found.append(bound if self.foreign else fresh)
        if self.unified is not None:
            found += self._mounted_unified(_place(self.unified))
        # co-mounted controllers have one directory and a name each
        shared = [each for each in self.v1 if len(each.controllers) > 1]
        if links := {name: Path(each.mount).name for each in shared for name in sorted(each.controllers)}:
            found.append({"op": "nodes", "target": _CGROUPS, "devices": [], "links": links})
        return [*found, {"op": "readonly", "in": "root", "target": _CGROUPS}]

    def _mounted_unified(self, target: str) -> list[Step]:
        if self.unified is None:
            return []
        if self.directory is None and not self.foreign:
            return [_fresh("cgroup2", target, [*_QUIET, "ro"])]
        return [{"op": "put", "in": "root", "ordinary": True, "what": UNIFIED, "target": target}]


def _place(hierarchy: Hierarchy) -> str:
    """Under the name that the host has for it, which is where programs look."""
    return f"{_CGROUPS}/{Path(hierarchy.mount).name}"
