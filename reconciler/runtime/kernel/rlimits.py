"""Limits per process, getrlimit(2): names to numbers, and whether a hard limit can be had here.

Numbers are those of include/uapi/asm-generic/resource.h; Python names all but one of them. Standard library only.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Mapping

from reconciler.runtime.kernel import capabilities

NUMBERS: Mapping[str, int] = {
    "cpu": 0,
    "fsize": 1,
    "data": 2,
    "stack": 3,
    "core": 4,
    "rss": 5,
    "nproc": 6,
    "nofile": 7,
    "memlock": 8,
    "as": 9,
    "locks": 10,
    "sigpending": 11,
    "msgqueue": 12,
    "nice": 13,
    "rtprio": 14,
    "rttime": 15,
}
_CAP_SYS_RESOURCE = "SYS_RESOURCE"


def limit(name: str, soft: int | None, hard: int | None) -> None:
    """None: unlimited."""
    values = tuple(resource.RLIM_INFINITY if value is None else value for value in (soft, hard))
    try:
        resource.setrlimit(NUMBERS[name], (values[0], values[1]))
    except (OSError, ValueError) as error:  # Python says EPERM and EINVAL as ValueError
        raise PermissionError(errno.EPERM, f"{name} cannot be {_shown(soft)} and {_shown(hard)}: {error}") from error


def out_of_reach(name: str, hard: int | None) -> str:
    """Why this process, and so what it starts, cannot have that hard limit; empty when it can."""
    _, own = resource.getrlimit(NUMBERS[name])
    if own == resource.RLIM_INFINITY or (hard is not None and hard <= own):
        return ""
    if capabilities.permitted() & capabilities.mask([_CAP_SYS_RESOURCE]):
        return ""
    return f"{_shown(hard)} is above the hard limit here, {own}, and raising one needs CAP_SYS_RESOURCE"


def _shown(value: int | None) -> str:
    return "unlimited" if value is None else str(value)
