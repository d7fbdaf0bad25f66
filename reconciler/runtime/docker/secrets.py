"""Secrets of an engine's containers: files in memory that is never swapped, which the engine mounts.

    RUNTIME/secrets/            a ramfs of our own, mode 0700, from the first container that has one to the last
        <container>/<number>    one for each volume of type secret, by its place in the spec; mode 0400, its user's

Invariant: the content is in this file, and in the agent while it launches; the engine is told the path.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators import volume_secret
from reconciler.runtime.kernel import syscalls
from reconciler.states import Reason

_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


def why_none(*, in_container: bool) -> str:
    """Why there can be no secrets on an engine here; "" when there can. in_container: the agent is in one."""
    if in_container:
        return "the agent runs in a container of its own: the engine does not see the memory that it would mount for it"
    if os.geteuid() != 0:
        return "only root can mount the memory that it is kept in"
    return ""


class Secrets:
    """Blocks, for no longer than a file of the host takes."""

    def __init__(self, runtime_dir: Path) -> None:
        self._directory = runtime_dir / "secrets"
        self._lock = threading.Lock()

    def directory(self, name: str) -> Path:
        return self._directory / name

    def write(self, config: ContainerConfig) -> None:
        """What is there of an earlier launch is written anew. Raises Retryable."""
        if not (contents := volume_secret.secrets(config)):
            return
        try:
            with self._lock:
                self._mount()
                self.directory(config.name).mkdir(mode=0o700, exist_ok=True)
            for number, content in contents.items():
                self._write(self.directory(config.name) / str(number), content)
        except OSError as error:
            why = f"{config.name}: its secrets cannot be kept in memory: {error}; it is tried again"
            raise Retryable(why, Reason.LAUNCH_FAILED) from error

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # one that some container still has mounted keeps its content
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o400)) as file:
            file.write(content)

    def _mount(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._directory.is_mount():
            syscalls.mount("secrets", str(self._directory), "ramfs", _FLAGS, "mode=0700")

    def give(self, name: str, uid: int, gid: int) -> None:
        """To the user of its container."""
        with contextlib.suppress(FileNotFoundError):
            for path in self.directory(name).iterdir():
                os.chown(path, uid, gid)

    def remove(self, name: str) -> None:
        """Its container is gone. Nothing to do for one that has none."""
        with self._lock:
            if not self._directory.is_dir():
                return
            shutil.rmtree(self.directory(name), ignore_errors=True)
            if next(self._directory.iterdir(), None) is None:
                with contextlib.suppress(OSError):  # in use: the next one that is removed tries again
                    if self._directory.is_mount():
                        syscalls.umount(str(self._directory))
                    self._directory.rmdir()
