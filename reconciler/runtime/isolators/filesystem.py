"""Isolators `filesystem/linux` and `filesystem/posix`: what a container sees of the host's files.

filesystem/linux, in the container's own mount namespace: with a rootfs nothing of them (filesystem_rootfs.py has
the steps), without one the host's tree as in Mesos, with cgroupfs
read-only, a fresh /proc and /dev/shm where the namespaces ask for it, and the reconciler's own directories
hidden, the container's sandbox alone bound back. That guards against accidents, not against attack.
filesystem/posix: the host's files as they are; the sandbox is just the working directory.

Order of the steps, and why:
  1. slave    nothing mounted below reaches the host; the host's unmounts still reach us
  1b. pins    what is mounted below the runtime directory would be held for as long as the container lives
  2. shm      taken from the parent (entering its mount namespace for a moment) while the host's /proc is still there
  2b. volumes taken before our directories are hidden, put once the sandbox is back (volumes.py)
  3. sandbox  taken before its path is hidden, put back after
  4. proc     after the last step that needs the host's own /proc

In a mapped user namespace the host's tree stays as it is, and its ids show as nobody; the sandbox alone keeps its
owners, and terminals, which have owners, come from a devpts of its own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators import filesystem_mounts, filesystem_rootfs
from reconciler.runtime.isolators.filesystem_rootfs import SHM_SIZE
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Limitation, PassiveIsolator
from reconciler.runtime.isolators.namespaces import mapped, of_the_host
from reconciler.runtime.isolators.volumes import place
from reconciler.runtime.kernel.cgroups import Hierarchy
from reconciler.runtime.launcher.pins import PINS
from reconciler.runtime.provisioner.images import DIRECTORY
from reconciler.runtime.provisioner.rootfs import refuse_own
from reconciler.runtime.provisioner.store import Store
from reconciler.spec.namespaces import Sharing, effective
from reconciler.states import Reason

_SHM_FLAGS = ["nosuid", "nodev", "noexec"]

Step = dict[str, Any]

_DEVPTS: Step = {
    "op": "mount",
    "type": "devpts",
    "source": "devpts",
    "target": "/dev/pts",
    "flags": ["nosuid", "noexec"],
}
_DEVPTS |= {"data": "newinstance,ptmxmode=0666,mode=0620,gid=5"}


class FilesystemLinuxIsolator(PassiveIsolator):
    name = "filesystem/linux"

    def __init__(self, root: Path, runtime_dir: Path, hierarchies: Sequence[Hierarchy]) -> None:
        self._root = os.path.realpath(root)
        self._runtime_dir = os.path.realpath(runtime_dir)
        self._host = filesystem_rootfs.Host(tuple(hierarchies), filesystem_rootfs.masked_paths())
        self._images = Store(root / DIRECTORY)
        self._has_mqueue = os.path.ismount("/dev/mqueue")

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        steps: list[Step] = [place("first"), {"op": "mount", "target": "/", "flags": ["rec", "slave"]}]
        if not mapped(config, context):  # there it was done before the user namespace was entered
            steps.append({"op": "detach", "target": os.path.join(self._runtime_dir, PINS)})
        steps.append(place("take"))
        if config.rootfs is None:
            return LaunchInfo(steps=(*steps, *self._hosts_tree(config, context)))
        if config.spec.rootfs is not None:
            refuse_own(config.name, config.rootfs, (self._root, self._runtime_dir))
        steps += filesystem_rootfs.steps(config, config.rootfs, self._host, context)
        return LaunchInfo(steps=tuple(steps), env={"MESOS_SANDBOX": filesystem_rootfs.SANDBOX})

    def every(self, context: Context) -> float | None:
        return filesystem_mounts.begin(context.first[0], context.runtime_dir) if context.first else None

    def watch(self, context: Context) -> Limitation | None:
        why = filesystem_mounts.look(context.first[0], context.runtime_dir) if context.first else ""
        return Limitation(Reason.MOUNT_LOST, why) if why else None

    def cleanup(self, context: Context) -> None:
        (context.runtime_dir / filesystem_mounts.FILE).unlink(missing_ok=True)
        self._images.remove(context.name)

    def _hosts_tree(self, config: ContainerConfig, context: Context) -> list[Step]:
        spec = config.spec
        table = effective(spec)
        steps: list[Step] = []
        self._refuse_covered(config)
        if table["ipc"] is Sharing.PARENT:
            steps += [*_shm_of_parent(), *self._mqueue()]
        elif table["ipc"] is Sharing.PRIVATE:
            steps += self._own_ipc(spec.namespaces.shm_size or SHM_SIZE)
        if mapped(config, context):
            _refuse_closed(config.name, (self._root, self._runtime_dir))
            steps.append(_DEVPTS)
        steps += [*self._hidden(config), place("below"), place("volumes")]
        steps += [{"op": "readonly", "target": each.mount} for each in self._host.hierarchies]
        if not of_the_host("pid", config, context):
            steps.append({"op": "mount", "type": "proc", "source": "proc", "target": "/proc", "flags": _SHM_FLAGS})
        return steps

    def _refuse_covered(self, config: ContainerConfig) -> None:
        """A volume over our directories would hide the sandbox, or what hides the rest."""
        for number, volume in enumerate(config.spec.volumes):
            target = Path(os.path.realpath(os.path.join(config.sandbox_path, volume.target)))
            for own in map(Path, (self._root, self._runtime_dir)):
                inside = target.is_relative_to(own) and volume.target.startswith("/")
                if inside or own.is_relative_to(target):
                    message = f"{config.name}: spec.volumes[{number}].target: {volume.target} overlaps {own}"
                    why = "where reconciler keeps its state; use a relative path for one in the sandbox"
                    raise Terminal(f"{message}, {why}", Reason.INVALID_SPEC)

    def _own_ipc(self, size: int) -> list[Step]:
        shm: Step = {"op": "mount", "type": "tmpfs", "source": "shm", "target": "/dev/shm", "flags": _SHM_FLAGS}
        return [shm | {"data": f"mode=1777,size={size}"}, *self._mqueue()]

    def _mqueue(self) -> list[Step]:
        """A mount of it shows the queues of the mounter's ipc namespace, own or entered (mq_overview(7))."""
        if not self._has_mqueue:
            return []
        return [{"op": "mount", "type": "mqueue", "source": "mqueue", "target": "/dev/mqueue", "flags": _SHM_FLAGS}]

    def _hidden(self, config: ContainerConfig) -> list[Step]:
        """Empty, read-only tmpfs over our directories, with the way to the own sandbox rebuilt in it."""
        covered = [self._root]
        if not Path(self._runtime_dir).is_relative_to(self._root):
            covered.append(self._runtime_dir)
        (top, beneath), sandbox = config.sandbox_place, config.sandbox_path
        taken: Step = {"op": "take", "source": top, "as": "sandbox", "idmap": True}
        steps = [taken | ({"beneath": beneath} if beneath else {})]
        for directory in covered:
            steps.append(
                {"op": "mount", "type": "tmpfs", "source": "hidden", "target": directory, "flags": ["nosuid", "nodev"]}
                | {"data": "mode=755,size=64k"}
            )
        steps += [{"op": "mkdir", "target": sandbox}, {"op": "put", "what": "sandbox", "target": sandbox}]
        return steps + [{"op": "readonly", "target": directory} for directory in covered]


def _refuse_closed(name: str, hidden: Sequence[str]) -> None:
    """The ids of a mapped user namespace are strangers to the host's directories, its root too."""
    for directory in dict.fromkeys(parent for each in hidden for parent in Path(each).parents):
        if directory.exists() and not directory.stat().st_mode & stat.S_IXOTH:
            why = f"its sandbox cannot be reached, because {directory} is closed to all but its owner"
            what = "let others pass it (chmod o+x), have --root elsewhere, or use a rootfs"
            raise Retryable(f"{name}: namespaces.user: private: {why}; {what}", Reason.LAUNCH_FAILED)


def _shm_of_parent() -> list[Step]:
    return [
        {"op": "take", "source": "/dev/shm", "of": "parent", "as": "shm"},
        {"op": "put", "what": "shm", "target": "/dev/shm"},
    ]


class FilesystemPosixIsolator(PassiveIsolator):
    name = "filesystem/posix"
