"""Files that are there as a whole or as they were: written beside, for their owner alone, and renamed into place.

The standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, data: bytes, *, sync: bool) -> None:
    """sync: the content is on disk before the name is; that the name is takes a `fsync` of its directory."""
    temporary = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.rename(path)


def fsync(path: Path) -> None:
    """Of a file or a directory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
