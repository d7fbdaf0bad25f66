"""Signals by the names that a spec may give them (signal(7)). Standard library only."""

from __future__ import annotations

import signal


def number(name: str) -> int:
    """Of "SIGTERM" and "SIGRTMIN+3". Raises KeyError."""
    base, _, offset = name.partition("+")
    return int(signal.Signals[base]) + int(offset or 0)
