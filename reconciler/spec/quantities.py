"""Sizes, durations and CPU counts as people write them, to and from numbers.

Invariant: a bare number is never guessed at. Kubernetes reads `memory: 256m` as a quarter of a
byte and `timeout: 5` as whatever the field's author meant; here both are errors that say what was
probably meant. Sizes are int bytes, durations float seconds. Pure.
"""

from __future__ import annotations

import math
import re

SIZE_UNITS = {
    "B": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
DURATION_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(B|k|K|M|G|T|Ki|Mi|Gi|Ti)$"
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(d|h|ms|m|s))+$"
LARGEST_SIZE = 2**63 - 1

_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?)(B|[kKMGT]|[KMGT]i)")
_NUMBER = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?)")
_LOOSE_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?)\s*([kmgt])(i?)b?", re.IGNORECASE)
_DURATION_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|d|h|m|s)")
_LOOSE_DURATION = re.compile(r"([0-9]{1,15})\s*(sec|second|min|minute|hour|hr|day|milli|msec)", re.IGNORECASE)
_LOOSE_DURATION_UNITS = {"se": "s", "mi": "m", "ho": "h", "hr": "h", "da": "d", "ms": "ms"}


class BadQuantity(ValueError):
    """`message` says what is wrong, `hint` what was probably meant (may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def parse_size(text: str) -> int:
    """Bytes. Raises BadQuantity."""
    match = _SIZE.fullmatch(text)
    if match is None:
        if _NUMBER.fullmatch(text):
            raise bare_size(text)
        raise BadQuantity(f'"{text}" is not a size', _size_hint(text))
    size = int(float(match[1]) * SIZE_UNITS[match[2]]) if "." in match[1] else int(match[1]) * SIZE_UNITS[match[2]]
    if size > LARGEST_SIZE:
        raise BadQuantity(f'"{text}" is more than any machine has')
    return size


def bare_size(number: object) -> BadQuantity:
    """The error for a size without a unit; what was meant depends on how big it is."""
    return BadQuantity("a size needs a unit", _bare_size_hint(str(number)))


def _bare_size_hint(text: str) -> str:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return "such as 64Mi or 1Gi"
    value = float(match[1])
    if value >= 2**20 and value % 2**20 == 0:
        return f'did you mean "{int(value) // 2**20}Mi"?'
    return f'did you mean "{text}{"B" if value >= 2**16 else "Mi"}"?'


def _size_hint(text: str) -> str:
    match = _LOOSE_SIZE.fullmatch(text.strip())
    if match is None:
        return "such as 64Mi, 1Gi or 500M"
    unit = match[2].upper()
    if match[3] or match[2].islower():
        unit += "i"
    return f'did you mean "{match[1]}{unit}"?'


def parse_duration(text: str) -> float:
    """Seconds. Raises BadQuantity."""
    position, total = 0, 0.0
    for match in _DURATION_PART.finditer(text):
        if match.start() != position:
            break
        total += float(match[1]) * DURATION_UNITS[match[2]]
        position = match.end()
    if position != len(text) or not text:
        if _NUMBER.fullmatch(text):
            raise bare_duration(text)
        raise BadQuantity(f'"{text}" is not a duration', _duration_hint(text))
    return total


def bare_duration(number: object) -> BadQuantity:
    """The error for a duration without a unit."""
    return BadQuantity("a duration needs a unit", f'did you mean "{number}s"?')


def _duration_hint(text: str) -> str:
    match = _LOOSE_DURATION.match(text.strip())
    if match is None:
        return "such as 500ms, 10s or 1m30s"
    unit = "ms" if match[2].lower().startswith(("milli", "ms")) else _LOOSE_DURATION_UNITS[match[2].lower()[:2]]
    return f'did you mean "{match[1]}{unit}"?'


def check_cpus(value: float) -> float:
    """A finite number of CPUs above zero. Raises BadQuantity."""
    if not math.isfinite(value) or value <= 0:
        raise BadQuantity("the number of cpus must be above 0")
    return value


def cpus_written_as_text(text: str) -> BadQuantity:
    """`500m` is another system's spelling of half a CPU."""
    match = re.fullmatch(r"([0-9]{1,9})m", text)
    if match is not None:
        return BadQuantity("cpus is a plain number", f"did you mean {int(match[1]) / 1000:g}?")
    return BadQuantity("cpus is a plain number", "such as 0.5 or 2, without quotes")


def format_size(size: int) -> str:
    """The shortest exact spelling: 268435456 → 256Mi, 1000 → 1000B."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def format_duration(seconds: float) -> str:
    """90.0 → 1m30s, 0.25 → 250ms, 0 → 0s."""
    milliseconds = round(seconds * 1000)
    parts = []
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
