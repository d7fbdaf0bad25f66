"""`rootfs: PATH`: a directory of the host that is used in place as a container's root file system.

Invariant: the tree shows nothing of this program's own state, to which other containers' sandboxes and the control
sockets belong. The path is the administrator's and its links are followed, once, here; everything below it is
the container's and is only ever resolved inside it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from reconciler.errors import Retryable, Terminal
from reconciler.states import Reason


def locate(name: str, path: str) -> Path:
    """The directory itself. Raises Retryable as long as there is none: it may be mounted or unpacked later."""
    if not path.startswith("/"):
        raise Terminal(f"{name}: spec.rootfs: {path!r} must be an absolute path of the host", Reason.INVALID_SPEC)
    found = Path(os.path.realpath(path))
    if not found.is_dir():
        raise Retryable(f"{name}: spec.rootfs: {path} is not a directory of this host", Reason.LAUNCH_FAILED)
    return found


def refuse_own(name: str, rootfs: Path, own: Sequence[str]) -> None:
    """Raises Terminal for a tree that lies in one of our directories or has one in it, as `/` has."""
    for directory in map(Path, own):
        if rootfs.is_relative_to(directory) or directory.is_relative_to(rootfs):
            raise Terminal(
                f"{name}: spec.rootfs: {rootfs} overlaps {directory}, where reconciler keeps its state; use another "
                "directory, or leave rootfs out for the host's file system",
                Reason.INVALID_SPEC,
            )
