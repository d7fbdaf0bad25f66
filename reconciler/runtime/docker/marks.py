"""Which names have, or may have, a container on the engine: ROOT/docker/<name>, a file each, in which the container's
executor writes (`executor.record`).

Written before a container is made, removed after it is certainly gone. An engine that is away cannot be asked, so
without them a container of its would look absent, and be started a second time somewhere. Standard library only.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path


class Marks:
    """Read once, and then remembered: the loop asks which names there are at every pass."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "docker"
        self._lock = threading.Lock()
        try:
            self._names = frozenset(path.name for path in self._directory.iterdir())
        except FileNotFoundError:
            self._names = frozenset()

    def names(self) -> frozenset[str]:
        return self._names

    def path(self, name: str) -> Path:
        return self._directory / name

    def put(self, name: str) -> None:
        """What is written in one that is there stays."""
        with self._lock:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._directory / name).touch(mode=0o600)
            self._names |= {name}

    def remove(self, name: str) -> None:
        with self._lock:
            (self._directory / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._directory.rmdir()
            self._names -= {name}
