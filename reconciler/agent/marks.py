"""Marks on names: what was decided and must outlive agent and reboot.

    ROOT/marks/<kind>/<name>.json   one small file each

That the file is there is the mark; what it says are details. Written to a temporary file, renamed, and fsynced with its
directory before anyone relies on it. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.runtime import durable


def read(directory: Path, kind: str) -> dict[str, dict[str, Any]]:
    """name → details, {} where they cannot be read."""
    return {file.stem: _details(file) for file in sorted((directory / kind).glob("*.json"))}


def _details(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(directory: Path, kind: str, name: str, details: Mapping[str, Any] | None) -> None:
    """Durable when it returns. None: take the mark off. Raises OSError."""
    path = directory / kind / f"{name}.json"
    if details is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.replace(path, json.dumps(dict(details)).encode(), sync=True)
    if path.parent.is_dir():
        durable.fsync(path.parent)
