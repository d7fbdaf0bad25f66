"""The record of attachments, `ROOT/networks/<container>.json`: a list of `Held`, written before anything is made.

It lies in ROOT because what a driver keeps on disk (addresses of CNI's host-local, say) outlives a reboot, too, and has
to be given back. Not synced: what a power failure takes of it, it takes of the kernel as well.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from reconciler.runtime import durable
from reconciler.runtime.network.driver import Held

log = logging.getLogger(__name__)

DIRECTORY = "networks"
_SUFFIX = ".json"


class Record:
    """Read once, then kept in memory; one agent writes it. Safe in any thread."""

    def __init__(self, root: Path) -> None:
        self._directory = root / DIRECTORY
        self._held: dict[str, tuple[Held, ...]] | None = None
        self._lock = threading.Lock()

    def all(self) -> dict[str, tuple[Held, ...]]:
        with self._lock:
            return dict(self._loaded())

    def of(self, container: str) -> tuple[Held, ...]:
        with self._lock:
            return self._loaded().get(container, ())

    def write(self, container: str, held: Sequence[Held]) -> None:
        with self._lock:
            self._write(container, held)

    def update(self, container: str, held: Held) -> bool:
        """In place of the line with the same interface; False if there is none any more."""
        with self._lock:
            lines = list(self._loaded().get(container, ()))
            places = [number for number, each in enumerate(lines) if each.request.ifname == held.request.ifname]
            for number in places:
                lines[number] = held
            if places:
                self._write(container, lines)
            return bool(places)

    def _write(self, container: str, held: Sequence[Held]) -> None:
        self._loaded()[container] = tuple(held)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps([each.as_json() for each in held])
        durable.replace(self._directory / (container + _SUFFIX), text.encode(), sync=False)

    def remove(self, container: str) -> None:
        with self._lock:
            if self._loaded().pop(container, None) is None:
                return
            (self._directory / (container + _SUFFIX)).unlink(missing_ok=True)
            if not self._held:
                self._directory.rmdir()

    def _loaded(self) -> dict[str, tuple[Held, ...]]:
        if self._held is None:
            self._held = {}
            for path in sorted(self._directory.glob("*" + _SUFFIX)):
                try:
                    self._held[path.stem] = tuple(Held.of(line) for line in json.loads(path.read_bytes()))
                except (OSError, ValueError, KeyError, TypeError) as error:
                    log.warning("%s cannot be read, so what it stood for is undone as far as it shows: %s", path, error)
                    path.unlink(missing_ok=True)
        return self._held
