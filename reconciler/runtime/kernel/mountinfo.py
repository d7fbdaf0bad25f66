"""Mounts as the kernel lists them, from /proc/PID/mountinfo (proc_pid_mountinfo(5)).

The one parser of that file: a variable number of optional fields ends at a lone "-", and space, tab,
newline and backslash in paths are written as three octal digits.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line. root: the directory of the file system that is shown at `target`; peers: the optional
    fields (`shared:7`, `master:2`, ...); options: of this mount; super_options: of the file system."""

    id: int
    parent: int
    device: str
    root: str
    target: str
    options: frozenset[str]
    peers: tuple[str, ...]
    fstype: str
    source: str
    super_options: frozenset[str]


def parse(text: str) -> tuple[Mount, ...]:
    """In the order of the kernel: a later mount lies over an earlier one of the same target."""
    return tuple(_line(line) for line in text.splitlines() if line)


def _line(line: str) -> Mount:
    head, separator, tail = line.partition(" - ")
    fields, rest = head.split(" "), tail.split(" ")
    if not separator or len(fields) < 6 or len(rest) < 3:
        raise ValueError(f"not a line of mountinfo: {line!r}")
    return Mount(
        id=int(fields[0]),
        parent=int(fields[1]),
        device=fields[2],
        root=_plain(fields[3]),
        target=_plain(fields[4]),
        options=frozenset(fields[5].split(",")),
        peers=tuple(fields[6:]),
        fstype=rest[0],
        source=_plain(rest[1]),
        super_options=frozenset(rest[2].split(",")),
    )


def _plain(text: str) -> str:
    """Undo the escapes; names that are no UTF-8 survive as surrogates."""
    if "\\" not in text:
        return text
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), os.fsencode(text).decode("latin-1"))
    return os.fsdecode(raw.encode("latin-1"))


def read(pid: int | str = "self") -> tuple[Mount, ...]:
    """The mounts that process sees."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())
