"""Which names have, or may have, a container on the engine: ROOT/docker/<name>, an empty file each.

Written before a container is made, removed after it is certainly gone. An engine that is away cannot be asked, so
without them a container of its would look absent, and be started a second time somewhere. Standard library only.
"""

from __future__ import annotations

import contextlib
from pathlib import Path


class Marks:
    def __init__(self, root: Path) -> None:
        self._directory = root / "docker"

    def names(self) -> set[str]:
        try:
            return {path.name for path in self._directory.iterdir()}
        except FileNotFoundError:
            return set()

    def put(self, name: str) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._directory / name).touch(mode=0o600)

    def remove(self, name: str) -> None:
        (self._directory / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._directory.rmdir()
