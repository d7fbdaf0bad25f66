"""What an executor writes down of its container, in the container's mark (ROOT/docker/<name>).

    {"id", "killAt": seconds of CLOCK_BOOTTIME or null, "container": as the engine inspected it, or null}

Whoever holds the mark's lock is the container's executor and the only one to write. `container` has what is needed to
know the run by, and its `State` is the last one: an end is there although the engine may know nothing of it any more.
Standard library only: the keeper imports this.
"""

from __future__ import annotations

import json
import os
from typing import Any

from reconciler.runtime.kernel import locks

Json = dict[str, Any]

_MOST = 1 << 20
_CONFIG = ("Labels", "StopSignal", "StopTimeout")


def kept(inspected: Json) -> Json:
    """Of what an engine says of a container, what is worth keeping: no variable of its environment."""
    config = {field: inspected["Config"].get(field) for field in _CONFIG}
    return {"Id": inspected["Id"], "State": inspected["State"], "Config": config}


def write(fd: int, record: Json) -> None:
    """In place, so that a mark that was removed meanwhile stays removed; on the disk when this returns."""
    data = json.dumps(record).encode()
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))
    os.fsync(fd)


def read(fd: int) -> Json | None:
    """None where there is none, or none that was written to its end."""
    try:
        found = json.loads(os.pread(fd, _MOST, 0))
        return found if isinstance(found, dict) and {"id", "killAt", "container"} <= found.keys() else None
    except ValueError:
        return None


def look(path: str) -> tuple[Json | None, int | None]:
    """(the record, the pid of the executor at work or None). A mark that is not there has neither. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, None
    try:
        holder = locks.holder(fd)  # first: what it writes before it goes is read then
        return read(fd), holder
    finally:
        os.close(fd)
