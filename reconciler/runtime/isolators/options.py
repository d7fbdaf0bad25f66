"""Options of isolators: what a spec says under `isolators: {name: options}`, read and judged. Pure.

An isolator has a table, key → how its value is read; a reader returns the value or raises Wrong with what it must be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from reconciler.errors import Terminal
from reconciler.spec import quantities
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

Options = Mapping[str, Callable[[Any], Any]]


class Wrong(ValueError):
    """What the value must be."""


class Configurable(Protocol):
    """What has options: an isolator."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> Options: ...


def faults(spec: ContainerSpec, isolator: Configurable) -> list[str]:
    """A sentence for each option that is unknown or has a wrong value."""
    return _read(spec, isolator)[1]


def read(spec: ContainerSpec, isolator: Configurable) -> dict[str, Any]:
    """Those that are given. Raises Terminal for what `faults` complains about."""
    values, wrong = _read(spec, isolator)
    if wrong:
        raise Terminal("; ".join(wrong), Reason.INVALID_SPEC)
    return values


def _read(spec: ContainerSpec, isolator: Configurable) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    wrong, known = [], isolator.options
    for key, given in spec.isolators.get(isolator.name, {}).items():
        field = f"spec.isolators.{isolator.name}.{key}"
        if key not in known:
            wrong.append(f"{field}: there is no such option; there are: {', '.join(sorted(known)) or 'none'}")
            continue
        try:
            values[key] = known[key](given)
        except Wrong as error:
            wrong.append(f"{field}: {given!r} must be {error}")
    return values, wrong


def flag(given: Any) -> bool:
    if not isinstance(given, bool):
        raise Wrong("true or false")
    return given


def count(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise Wrong("a whole number from 1")
    return given


def interval(given: Any) -> float:
    """In seconds."""
    try:
        seconds = quantities.parse_duration(given) if isinstance(given, str) else 0.0
    except quantities.BadQuantity:
        seconds = 0.0
    if seconds < 1:
        raise Wrong("a time of at least a second, with a unit: 15s")
    return seconds
