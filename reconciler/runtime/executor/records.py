"""Sessions on disk: `RUNTIME/executors/<name>.json`, each replaced as a whole at every change."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from reconciler.runtime import durable
from reconciler.runtime.executor.session import Session

_SUFFIX = ".json"


class Records:
    def __init__(self, runtime_dir: Path) -> None:
        self._directory = runtime_dir / "executors"

    def load(self) -> tuple[dict[str, Session], dict[str, str]]:
        """(name → session, name → why it cannot be read: its container then runs as one without an executor)."""
        found, unreadable = dict[str, Session](), dict[str, str]()
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            try:
                found[path.name.removesuffix(_SUFFIX)] = Session.from_json(json.loads(path.read_bytes()))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                name = path.name.removesuffix(_SUFFIX)
                unreadable[name] = f"{path} cannot be read, so nobody listens to it until it is restarted: {error}"
        return found, unreadable

    def save(self, session: Session) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        text = json.dumps(session.as_json())
        durable.replace(self._directory / f"{session.name}{_SUFFIX}", text.encode(), sync=False)

    def remove(self, name: str) -> None:
        (self._directory / f"{name}{_SUFFIX}").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or not there
            self._directory.rmdir()
