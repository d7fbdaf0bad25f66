"""Pinned pidfds: the exit status of a container without an init, even if nobody was there when it ended.

A pidfd bound to a file below RUNTIME/pins keeps the kernel's record of the process for as long as it is mounted
(pidfs, Linux 6.15: PIDFD_GET_INFO with PIDFD_INFO_EXIT); older kernels refuse, and the status may be lost. All pins
lie in one private tmpfs, so that a container detaches them from its mount namespace with a single umount.
Standard library only: the keeper clears them away as its last act.
"""

from __future__ import annotations

import contextlib
import os

from reconciler.runtime.kernel import syscalls

PINS = "pins"


class Pins:
    def __init__(self, runtime_dir: str | os.PathLike[str]) -> None:
        self.directory = os.path.join(os.path.realpath(runtime_dir), PINS)

    def pin(self, name: str, pidfd: int) -> bool:
        """False where the kernel, or the lack of privileges, does not allow it."""
        path = os.path.join(self.directory, name)
        try:
            self._prepare()
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            fd = syscalls.open_tree_of(pidfd)
            try:
                syscalls.move_mount(fd, path)
            finally:
                os.close(fd)
        except OSError:
            self.unpin(name)
            return False
        return True

    def _prepare(self) -> None:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        if not os.path.ismount(self.directory):
            syscalls.mount("pins", self.directory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=700,size=1m")
            syscalls.mount("none", self.directory, "", syscalls.MS_PRIVATE)

    def status(self, name: str) -> int | None:
        """The raw wait status of the pinned process; None when there is no pin or it has not been reaped."""
        try:
            fd = os.open(os.path.join(self.directory, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            return syscalls.exit_status_of(fd)
        finally:
            os.close(fd)

    def unpin(self, name: str) -> None:
        path = os.path.join(self.directory, name)
        with contextlib.suppress(OSError):
            syscalls.umount(path, syscalls.MNT_DETACH)
        with contextlib.suppress(OSError):
            os.unlink(path)

    def remove(self) -> None:
        """All of them, and where they were."""
        with contextlib.suppress(OSError):
            syscalls.umount(self.directory, syscalls.MNT_DETACH)
        with contextlib.suppress(OSError):
            os.rmdir(self.directory)
