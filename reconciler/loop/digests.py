"""Digests of specs, remembered: a pass over a hundred unchanged specs computes none.

An instance is launched with a digest of those fields only whose change needs a restart. It is kept with
the instance by its containerizer, so it must stay the same when labels or limits change in place; and it
is prefixed with the schema: digests of different schemas say nothing about each other, so that an
upgrade of the agent restarts nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from functools import lru_cache
from typing import Generic, TypeVar

from reconciler.spec import normal
from reconciler.spec.changes import LIVE_FIELDS
from reconciler.spec.model import ContainerSpec

REMEMBERED = 8192

T = TypeVar("T")


class Keyed(Generic[T]):
    """A value that is hashed by something which determines it."""

    __slots__ = ("key", "value")

    def __init__(self, value: T, key: Hashable) -> None:
        self.value, self.key = value, key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyed) and self.key == other.key


@lru_cache(REMEMBERED)
def _launch_digest(spec: Keyed[ContainerSpec]) -> str:
    kept = {field: value for field, value in normal.dump(spec.value).items() if field not in LIVE_FIELDS}
    if "executor" in kept:
        kept["executor"] = {field: value for field, value in kept["executor"].items() if field != "tasks"}
    return f"{normal.SCHEMA}:{hashlib.sha256(normal.canonical(kept)).hexdigest()}"


def launch_digest(spec: ContainerSpec, digest: str) -> str:
    """What an instance of the spec is launched with; `digest` is the spec's full one."""
    return _launch_digest(Keyed(spec, digest))


def outdated(running: str, spec: ContainerSpec, digest: str) -> bool:
    """Whether what runs is certainly not what `spec` describes."""
    schema, _, value = running.partition(":")
    return bool(value) and schema == str(normal.SCHEMA) and running != launch_digest(spec, digest)
