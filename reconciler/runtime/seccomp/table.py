"""The numbers of system calls by name, per architecture: what `syscalls.tsv` says (see there for how it is written)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("syscalls.tsv")
_COLUMNS = {"x86_64": 1, "aarch64": 2}
ARCHITECTURES = tuple(_COLUMNS)


@cache
def numbers(architecture: str) -> Mapping[str, int]:
    """Of every call that this architecture has."""
    column = _COLUMNS[architecture]
    rows = [line.split("\t") for line in _FILE.read_text().splitlines() if not line.startswith("#")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
