"""This process as the subreaper of keepers and containers, so that what a killed keeper leaves stays attributable.

Reaps only what it adopted: keepers and containers lead sessions of their own, children that a test or a library
started and waits for do not.
"""

from __future__ import annotations

import contextlib
import os
import threading
from types import TracebackType

from reconciler.runtime.kernel.syscalls import PR_SET_CHILD_SUBREAPER, prctl
from tests import processes


class Reaper:
    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def __enter__(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        prctl(PR_SET_CHILD_SUBREAPER, 0)

    def _run(self) -> None:
        own = os.getsid(0)
        while not self._over.wait(0.01):
            for thread in processes.names("/proc/self/task"):
                with contextlib.suppress(OSError):
                    for pid in _children(thread):
                        self._reap(pid, own)

    def _reap(self, pid: int, own: int) -> None:
        process = processes.read(pid)
        if process is not None and process.state == "Z" and process.session != own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children(thread: str) -> list[int]:
    fd = os.open(f"/proc/self/task/{thread}/children", os.O_RDONLY)
    try:
        return [int(word) for word in os.read(fd, 65536).split()]
    finally:
        os.close(fd)
