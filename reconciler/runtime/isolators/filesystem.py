"""Isolators `filesystem/linux` and `filesystem/posix`: what a container without a rootfs sees of the host's files.

filesystem/linux, in the container's own mount namespace: the host's tree as in Mesos, with cgroupfs
read-only, a fresh /proc and /dev/shm where the namespaces ask for it, and the reconciler's own directories
hidden, the container's sandbox alone bound back. That guards against accidents, not against attack.
filesystem/posix: the host's files as they are; the sandbox is just the working directory.

Order of the steps, and why:
  1. slave    nothing mounted below reaches the host; the host's unmounts still reach us
  1b. pins    what is mounted below the runtime directory would be held for as long as the container lives
  2. shm      taken from the parent (entering its mount namespace for a moment) while the host's /proc is still there
  3. sandbox  taken before its path is hidden, put back after
  4. proc     after the last step that needs the host's own /proc
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, PassiveIsolator
from reconciler.runtime.launcher.pins import PINS
from reconciler.spec.namespaces import Sharing, effective

SHM_SIZE = 64 * 1024 * 1024
_SHM_FLAGS = ["nosuid", "nodev", "noexec"]

Step = dict[str, Any]


class FilesystemLinuxIsolator(PassiveIsolator):
    name = "filesystem/linux"

    def __init__(self, root: Path, runtime_dir: Path, cgroup_mounts: Sequence[str]) -> None:
        self._root = os.path.realpath(root)
        self._runtime_dir = os.path.realpath(runtime_dir)
        self._cgroup_mounts = tuple(cgroup_mounts)
        self._has_mqueue = os.path.ismount("/dev/mqueue")

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        spec = config.spec
        table = effective(spec)
        sandbox = os.path.realpath(config.sandbox)
        steps: list[Step] = [
            {"op": "mount", "target": "/", "flags": ["rec", "slave"]},
            {"op": "detach", "target": os.path.join(self._runtime_dir, PINS)},
        ]
        if table["ipc"] is Sharing.PARENT:
            steps += _shm_of_parent()
        elif table["ipc"] is Sharing.PRIVATE:
            steps += self._own_ipc(spec.namespaces.shm_size or SHM_SIZE)
        steps += self._hidden(sandbox)
        steps += [{"op": "readonly", "target": mount} for mount in self._cgroup_mounts]
        if table["pid"] is not Sharing.HOST:
            steps.append({"op": "mount", "type": "proc", "source": "proc", "target": "/proc", "flags": _SHM_FLAGS})
        return LaunchInfo(steps=tuple(steps))

    def _own_ipc(self, size: int) -> list[Step]:
        steps: list[Step] = [
            {"op": "mount", "type": "tmpfs", "source": "shm", "target": "/dev/shm", "flags": _SHM_FLAGS}
            | {"data": f"mode=1777,size={size}"}
        ]
        if self._has_mqueue:
            steps.append(
                {"op": "mount", "type": "mqueue", "source": "mqueue", "target": "/dev/mqueue", "flags": _SHM_FLAGS}
            )
        return steps

    def _hidden(self, sandbox: str) -> list[Step]:
        """Empty, read-only tmpfs over our directories, with the way to the own sandbox rebuilt in it."""
        covered = [self._root]
        if not Path(self._runtime_dir).is_relative_to(self._root):
            covered.append(self._runtime_dir)
        steps: list[Step] = [{"op": "take", "source": sandbox, "as": "sandbox"}]
        for directory in covered:
            steps.append(
                {"op": "mount", "type": "tmpfs", "source": "hidden", "target": directory, "flags": ["nosuid", "nodev"]}
                | {"data": "mode=755,size=64k"}
            )
        steps += [{"op": "mkdir", "target": sandbox}, {"op": "put", "what": "sandbox", "target": sandbox}]
        return steps + [{"op": "readonly", "target": directory} for directory in covered]


def _shm_of_parent() -> list[Step]:
    return [
        {"op": "take", "source": "/dev/shm", "of": "parent", "as": "shm"},
        {"op": "put", "what": "shm", "target": "/dev/shm"},
    ]


class FilesystemPosixIsolator(PassiveIsolator):
    name = "filesystem/posix"
