"""Where a container's standard streams go: files beside the sandbox, written by the container itself.

The container holds append-only descriptors and never sees the directory, so it can plant no link there, and
no process of ours stands between it and its log. The last run's files are kept as `previous/`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from reconciler.runtime.mesos.rotation import generations

STREAMS = ("stdout", "stderr")
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def open_streams(logs: Path) -> dict[str, int]:
    """Descriptors for stdin (the null device), stdout and stderr of a new run; the caller closes them."""
    logs.mkdir(parents=True, exist_ok=True)
    previous = logs / "previous"
    with contextlib.suppress(FileNotFoundError):
        for old in previous.iterdir():
            old.unlink()
    for file in [file for stream in STREAMS for file in generations(logs / stream)]:
        previous.mkdir(mode=0o700, exist_ok=True)
        file.rename(previous / file.name)
    fds = {"stdin": os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)}
    try:
        for stream in STREAMS:
            fds[stream] = os.open(logs / stream, _FLAGS, 0o600)
    except OSError:
        for fd in fds.values():
            os.close(fd)
        raise
    return fds
