"""Where a volume may appear in its container. Pure.

Invariant: two targets that mean the same place are written alike, and none covers what the kernel shows a container.
"""

from __future__ import annotations

import posixpath

_KERNELS, _DEVICES = ("/proc", "/sys"), "/dev"


def normal(target: str) -> str:
    """Without doubled and trailing slashes and dots; still relative when it lies in the sandbox."""
    found = posixpath.normpath(target)
    return "/" + found.lstrip("/") if found.startswith("/") else found


def refused(target: str, *, devices: bool = False) -> str | None:
    """Why nothing may be mounted there; a device may in /dev."""
    path = normal(target)
    if path == "/":
        return "is the root itself; use rootfs for another root"
    if path == ".":
        return "is the sandbox itself; name a path in it"
    for kernels in _KERNELS if devices else (*_KERNELS, _DEVICES):
        if path == kernels or path.startswith(kernels + "/"):
            return f"lies in {kernels}, which the kernel fills"
    return None
