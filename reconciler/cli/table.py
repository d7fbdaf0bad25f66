"""Plain columns for people, safe for a terminal: what comes from specs and logs cannot send escape sequences."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def clean(text: str) -> str:
    """Control characters made visible, line ends included."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def complain(text: str) -> None:
    """Each of its lines to stderr."""
    for line in text.splitlines():
        print(clean(line), file=sys.stderr)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart, the last one as long as it is."""
    lines = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def age(then: str | None, now: float) -> str:
    """How long ago an RFC 3339 time was, in two figures at the most."""
    if then is None:
        return "-"
    from datetime import datetime

    seconds = max(0, int(now - datetime.fromisoformat(then).timestamp()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
