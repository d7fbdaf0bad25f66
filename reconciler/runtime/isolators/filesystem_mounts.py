"""Mounts of a container that somebody took away behind its back: its view now, compared with the one it began with.

    it runs ─▶ seen(mountinfo) ─▶ mounts.json ─▶ … a look every `PERIOD` ─▶ lost(then, now) ─▶ the run ends

Nothing can be mounted into a running container from outside as it was, so the run is ended for it. What the container
may change by itself, having CAP_SYS_ADMIN, is its own affair; so is what comes and goes with the host's mounts (those
that propagate, see mount_namespaces(7)). A mount that hides another takes nothing away. A new agent compares with what
the run began with, not with what it finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reconciler.runtime.isolators import remembering
from reconciler.runtime.kernel import capabilities, mountinfo, proc
from reconciler.runtime.kernel.mountinfo import Mount

PERIOD = 10.0
FILE = "mounts.json"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """root: id of the mount at "/", which another view would not have; own: [target, device] of each mount that
    neither propagates from elsewhere nor is the host's too: an unmount there reaches whatever lies on a mount that
    propagates, and without a root of its own the container has a copy of everything."""

    root: int
    own: list[list[str]]


def seen(mounts: Iterable[Mount], hosts: Iterable[Mount] = ()) -> Seen:
    root, own = 0, []
    elsewhere = {(mount.target, mount.device) for mount in hosts}
    for mount in mounts:
        if mount.target == "/":
            root = mount.id
        elif (mount.target, mount.device) in elsewhere:
            continue
        elif not any(field.startswith(("master:", "shared:")) for field in mount.peers):
            own.append([mount.target, mount.device])
    return Seen(root, own)


def lost(before: Seen, now: Seen) -> list[str]:
    """Targets; none when it is another view that is seen now."""
    if before.root != now.root:
        return []
    left = list(now.own)
    missing = []
    for each in before.own:
        if each in left:
            left.remove(each)
        else:
            missing.append(each[0])
    return missing


def begin(pid: int, directory: Path) -> float | None:
    """Of a run that has just begun, or that an earlier agent began. Seconds between one look and the next; None: it may
    change its mounts by itself. Raises OSError when it has ended."""
    if "SYS_ADMIN" in capabilities.names(proc.bounding(pid)):
        return None
    if not (directory / FILE).exists():
        remembering.write(directory / FILE, seen(mountinfo.read(pid), mountinfo.read()))
    return PERIOD


def look(pid: int, directory: Path) -> str:
    """What was taken away, as a sentence; "" for nothing."""
    before = remembering.read(directory / FILE, Seen)
    missing = [] if before is None else lost(before, seen(mountinfo.read(pid)))
    if not missing:
        return ""
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"somebody unmounted {', '.join(missing[:_SHOWN])}{more} in it"
