"""Reads the files that a spec refers to, when a container is launched.

Invariant: bounded, regular files only, and nothing that somebody is still writing.
"""

from __future__ import annotations

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.spec.references import located
from reconciler.spec.sources import reading


def read(config: ContainerConfig, field: str, path: str, limit: int) -> bytes:
    """The content of the file that the field names. Raises Retryable."""
    where = located(path, str(config.base))
    try:
        data = reading.read(where, limit).data
    except reading.Busy:
        why = "it is being written by another program"
    except reading.NotAFile as error:
        why = f"it is {error}, not a file"
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    else:
        if len(data) <= limit:
            return data
        why = f"it is larger than {limit} bytes"
    raise Retryable(f"{config.name}: spec.{field}: {where}: {why}")
