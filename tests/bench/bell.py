"""A FIFO that payloads write their name into: their first act, seen from outside.

It holds on any file system and to well below a millisecond (a file's timestamp is only as fine as a timer tick).
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PATIENCE = 30.0  # seconds for anything to happen at all
_LOOK = 0.5  # seconds between questions whether it can still come


class Bell:
    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # read-write: a writer's open never blocks
        self._heard = b""

    def shell(self, name: str) -> str:
        return f"echo {name} >{self.path}"

    def wait(self, names: Iterable[str], lost: Callable[[], bool] = lambda: False) -> int:
        """time.monotonic_ns() when the last of those names came. lost: it cannot come any more."""
        missing, deadline = set(names), time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            over = lost()
            ready, _, _ = select.select([self._fd], [], [], 0 if over else _LOOK)
            at = time.monotonic_ns()
            if not ready and over:
                break
            if ready:
                *lines, self._heard = (self._heard + os.read(self._fd, 65536)).split(b"\n")
                missing -= {line.decode() for line in lines}
                deadline = time.monotonic() + PATIENCE
            if not missing:
                return at
        raise TimeoutError(f"the payload of {', '.join(sorted(missing)[:5])} never ran")

    def close(self) -> None:
        os.close(self._fd)
