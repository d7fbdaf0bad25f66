"""Revisions on disk: ROOT/containers/<name>/revisions.json, of a top-level name, oldest first.

Beside the record, so that they go when it does. Temporary file, rename, fsync of both. For its owner alone: a spec may
hold what is not for everybody.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reconciler.loop.revisions import Revision
from reconciler.loop.values import Origin
from reconciler.spec.sources.listing import Commit

log = logging.getLogger(__name__)

FILE = "revisions.json"
VERSION = 1


def read(directory: Path) -> tuple[Revision, ...]:
    """() for a name that has none. What cannot be read is logged and begun anew: nothing runs by it."""
    try:
        data = json.loads((directory / FILE).read_bytes())
        if data["version"] != VERSION:
            raise ValueError(f"it was written in version {data['version']} of the form, this is version {VERSION}")
        return tuple(_from_json(one) for one in data["revisions"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read: %s", directory / FILE, error)
        return ()


def write(directory: Path, revisions: Sequence[Revision]) -> None:
    """Durable when it returns; nothing happens where the directory is gone. Raises OSError."""
    try:
        parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        data = {"version": VERSION, "revisions": [asdict(one) for one in revisions]}
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(f"{FILE}.new", flags, 0o600, dir_fd=parent), "wb") as file:
            file.write(json.dumps(data, separators=(",", ":")).encode())
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{FILE}.new", FILE, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    except FileNotFoundError:  # removed meanwhile
        return
    finally:
        os.close(parent)


def _from_json(data: dict[str, Any]) -> Revision:
    origin = dict(data["origin"])
    commit = origin.pop("commit", None)
    made = Origin(**origin, commit=Commit(**commit) if commit else None)
    return Revision(
        number=data["number"],
        at=data["at"],
        digest=data["digest"],
        origin=made,
        specs=tuple(data["specs"]),
        schema=data["schema"],
    )
