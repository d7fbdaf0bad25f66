"""How long to wait before the next try: exponential, capped, spread.

Pure and deterministic: the spread is taken from the name and the count, so the same history gives
the same plan, and containers that crash together do not start together again.
"""

from __future__ import annotations

import zlib

from reconciler.spec.model import Backoff
from reconciler.states import Reason

SPREAD = 0.1
"""At most this share is added to a delay, never beyond the cap."""

TROUBLE = Backoff(initial=0.5, factor=2.0, max=30.0)
"""For attempts that were no run: a launch that can be tried again, a destroy that is stuck."""

PULLS = Backoff(initial=1.0, factor=2.0, max=120.0)
"""For images that cannot be had: a registry is asked less often than a kernel, and no container has crashed."""


def trouble(reason: Reason) -> Backoff:
    return PULLS if reason is Reason.IMAGE_UNAVAILABLE else TROUBLE


def jitter(name: str, count: int) -> float:
    """In [0, 1), the same for the same name and count."""
    return zlib.crc32(f"{name}#{count}".encode()) / 2**32


def delay(backoff: Backoff, failures: int, spread: float = 0.0) -> float:
    """Seconds to wait after so many failures in a row (0 or 1: the initial delay). `spread` in [0, 1)."""
    exponent = min(max(failures - 1, 0), 64)  # beyond that the cap has long been reached, and floats overflow
    wanted = backoff.initial * backoff.factor**exponent
    return min(wanted * (1.0 + SPREAD * spread), backoff.max)
