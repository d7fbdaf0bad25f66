"""What a change of spec does to a running container, field by field.

Invariant: every field is either in LIVE_FIELDS, or below `resources`, or it restarts. So a field
added to the model restarts until someone decides otherwise. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from reconciler.spec.model import ContainerSpec
from reconciler.spec.normal import canonical, dump
from reconciler.spec.quantities import format_duration, format_size
from reconciler.states import ChangeClass

LIVE_FIELDS = frozenset(
    {
        "labels",
        "annotations",
        "restartPolicy",
        "backoff",
        "healthChecks",
        "killPolicy",
        "resources",
        "suspend",
        "prune",
        "nodeSelector",
        "dependsOn",
        "maxCompletionTime",
    }
)
"""Top-level fields whose change restarts nothing; `resources` are changed in place."""

TASKS = "executor.tasks"
"""Changed in place too, each task by itself."""

_LASTING = frozenset({"resources.limits.memory", "resources.limits.cpuset"})
_SIZES = frozenset({"memory", "memorySwap", "disk", "shmSize", "maxSize", "ingress", "egress"})
_SIZES |= {"readBps", "writeBps"}
_DURATIONS = frozenset({"gracePeriod", "initial", "max", "resetAfter", "maxCompletionTime", "shutdownGracePeriod"})


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs. field: dotted path as written; old, new: JSON-able, None when not set; both None:
    not to be shown."""

    field: str
    old: Any
    new: Any
    change: ChangeClass

    def __str__(self) -> str:
        if self.old is None and self.new is None:
            return f"{self.field} changed"
        return f"{self.field} changed: {_show(self.field, self.old)} → {_show(self.field, self.new)}"


def compare(old: ContainerSpec, new: ContainerSpec) -> tuple[Change, ...]:
    """Every difference, in the order of the model's fields; empty when they mean the same."""
    before, after = dump(old), dump(new)
    if canonical(before) == canonical(after):
        return ()
    changes = []
    for name, field in type(old).model_fields.items():
        alias = field.alias or name
        if before.get(alias) != after.get(alias):
            for path, was, now in _differences(alias, getattr(old, name), getattr(new, name)):
                changes.append(Change(path, was, now, _classify(alias, path, old, now)))
    return tuple(changes)


def compare_contents(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """Of the files that both versions refer to in the same field. Hashes under different keys say nothing."""
    return tuple(
        Change(f"the content of {field}", None, None, ChangeClass.RESTART)
        for field in sorted(old.keys() & new.keys())
        if old[field] != new[field] and old[field].partition(":")[0] == new[field].partition(":")[0]
    )


def in_place(field: str) -> bool:
    """Whether what runs has to be told of the change, which restarts nothing."""
    return field.partition(".")[0] == "resources" or f"{field}.".startswith(f"{TASKS}.")


def _classify(alias: str, path: str, old: ContainerSpec, now: Any) -> ChangeClass:
    if alias not in LIVE_FIELDS and not in_place(path):
        return ChangeClass.RESTART
    if old.type == "docker" and path in _LASTING and now is None:
        return ChangeClass.RESTART  # an engine can change these, but not take them back
    if old.type == "docker" and path.startswith("resources.limits.io"):
        return ChangeClass.RESTART  # and these only give
    return ChangeClass.LIVE


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Down to the fields of models of the same type and the keys of maps; lists differ as a whole."""
    if isinstance(old, BaseModel) and isinstance(new, BaseModel):
        for name, field in type(old).model_fields.items():
            was, now = getattr(old, name), getattr(new, name, None)
            if was != now:
                yield from _differences(f"{path}.{field.alias or name}", was, now)
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield from _differences(f"{path}.{key}", old.get(key), new.get(key))
    else:
        yield path, _plain(old), _plain(new)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _show(field: str, value: Any) -> str:
    leaf = field.rpartition(".")[2]
    if value is None:
        return "not set"
    if (leaf in _SIZES or ".hugepages." in field) and isinstance(value, int):
        return format_size(value)
    if leaf in _DURATIONS and isinstance(value, int | float):
        return format_duration(value)
    return _brief(value)


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_brief(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_brief(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
