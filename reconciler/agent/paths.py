"""Where state and runtime directories are: for root, for an ordinary user, and as told. Standard library only.

--root DIR         RECONCILER_ROOT         /var/lib/reconciler   $XDG_STATE_HOME/reconciler (~/.local/state)
--runtime-dir DIR  RECONCILER_RUNTIME_DIR  /run/reconciler       $XDG_RUNTIME_DIR/reconciler, else ROOT/run
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAME = "reconciler"


@dataclass(frozen=True, slots=True)
class Places:
    """ROOT survives reboots, RUNTIME does not."""

    root: Path
    runtime_dir: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def owner(self) -> Path:
        return self.root / "owner"

    @property
    def content_key(self) -> Path:
        """What contents of files are hashed with; secret."""
        return self.root / "content.key"

    @property
    def records(self) -> Path:
        return self.root / "containers"

    @property
    def events(self) -> Path:
        """The agent's own, and those of names that are gone."""
        return self.root / "events.jsonl"

    @property
    def marks(self) -> Path:
        """What was decided about names: suspended, held."""
        return self.root / "marks"

    @property
    def sources(self) -> Path:
        """What was fetched of sources that are elsewhere."""
        return self.root / "sources"

    @property
    def cache(self) -> Path:
        """What can be had again: uris that were fetched with `cache`."""
        return self.root / "cache"

    @property
    def rows(self) -> Path:
        return self.runtime_dir / "rows"

    @property
    def notes(self) -> Path:
        return self.runtime_dir / "notes.json"

    @property
    def claim(self) -> Path:
        return self.runtime_dir / "root.json"

    @property
    def control(self) -> Path:
        return self.runtime_dir / "agent.sock"


def sandbox_of(places: Places, name: str) -> Path:
    """A nested container's lies inside its parent's."""
    top, *labels = name.split(".")
    path = places.records / top / "sandbox"
    for label in labels:
        path = path / "containers" / label
    return path


def places(root: str | None, runtime_dir: str | None, environ: Mapping[str, str], *, privileged: bool) -> Places:
    """Flags win over the environment, the environment over the defaults. Relative paths are made absolute."""
    chosen = root or environ.get("RECONCILER_ROOT") or _default_root(environ, privileged=privileged)
    state = absolute(chosen)
    runtime = runtime_dir or environ.get("RECONCILER_RUNTIME_DIR")
    if not runtime:
        runtime = _default_runtime(state, environ, privileged=privileged)
    return Places(state, absolute(runtime))


def absolute(path: str) -> Path:
    """As given, links not followed: a source directory that is a link is known by the link's path."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve would follow links


def _default_root(environ: Mapping[str, str], *, privileged: bool) -> str:
    if privileged:
        return f"/var/lib/{NAME}"
    state = environ.get("XDG_STATE_HOME") or os.path.join(Path.home(), ".local", "state")
    return os.path.join(state, NAME)


def _default_runtime(root: Path, environ: Mapping[str, str], *, privileged: bool) -> str:
    if privileged:
        return f"/run/{NAME}"
    if directory := environ.get("XDG_RUNTIME_DIR"):
        return os.path.join(directory, NAME)
    return str(root / "run")
