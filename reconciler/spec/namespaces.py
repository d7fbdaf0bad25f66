"""Which namespaces a container may share with whom: the table, as data.

Invariant: the mount namespace is never shared, and what a nested container shares is its parent's.
`effective` answers for any container, `violations` says what a row refuses and why. Pure.
After namespaces(7) and the sharing options of Mesos's linux launcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from reconciler.spec.model import ContainerSpec


class Sharing(Enum):
    PRIVATE = "private"
    HOST = "host"
    PARENT = "parent"


@dataclass(frozen=True, slots=True)
class Row:
    """What one kind of namespace may be at one place of the tree; the first is the default."""

    allowed: tuple[Sharing, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Kind:
    top: Row
    nested: Row


_NEVER = "a mount namespace is never shared"
_NO_PARENT = "a top-level container has no parent"
_NOT_HOST = "a nested container shares with its parent, never with the host directly"
_ONLY_PARENT = "a nested container always shares its parent's"

TABLE: Mapping[str, Kind] = {
    "mount": Kind(Row((Sharing.PRIVATE,), _NEVER), Row((Sharing.PRIVATE,), _NEVER)),
    "pid": Kind(Row((Sharing.PRIVATE, Sharing.HOST), _NO_PARENT), Row((Sharing.PRIVATE, Sharing.PARENT), _NOT_HOST)),
    "network": Kind(Row((Sharing.HOST, Sharing.PRIVATE), _NO_PARENT), Row((Sharing.PARENT,), _ONLY_PARENT)),
    "uts": Kind(Row((Sharing.HOST, Sharing.PRIVATE), _NO_PARENT), Row((Sharing.PARENT,), _ONLY_PARENT)),
    "ipc": Kind(Row((Sharing.PRIVATE, Sharing.HOST), _NO_PARENT), Row((Sharing.PRIVATE, Sharing.PARENT), _NOT_HOST)),
    "cgroup": Kind(Row((Sharing.PRIVATE, Sharing.HOST), _NO_PARENT), Row((Sharing.PARENT, Sharing.PRIVATE), _NOT_HOST)),
    "user": Kind(Row((Sharing.HOST, Sharing.PRIVATE), _NO_PARENT), Row((Sharing.PARENT,), _ONLY_PARENT)),
}


def _written(spec: ContainerSpec, kind: str) -> Sharing | None:
    value: str | None = getattr(spec.namespaces, kind)
    return None if value is None else Sharing(value)


def _row(spec: ContainerSpec, kind: str) -> Row:
    return TABLE[kind].nested if spec.parent is not None else TABLE[kind].top


def effective(spec: ContainerSpec) -> dict[str, Sharing]:
    """What each namespace of the container is, written or by default."""
    if spec.class_ == "debug":
        return {kind: Sharing.PARENT for kind in TABLE}
    chosen = {kind: _written(spec, kind) or _row(spec, kind).allowed[0] for kind in TABLE}
    named = spec.hostname is not None or chosen["network"] is Sharing.PRIVATE
    if spec.parent is None and spec.namespaces.uts is None and named:
        chosen["uts"] = Sharing.PRIVATE
    return chosen


def explicit(spec: ContainerSpec) -> frozenset[str]:
    """The namespaces the spec names itself: a launcher that cannot give one must say so. A hostname
    names the uts namespace it needs, and shmSize the ipc namespace."""
    names = {kind for kind in TABLE if _written(spec, kind) is not None}
    if spec.hostname is not None:
        names.add("uts")
    if spec.namespaces.shm_size is not None:
        names.add("ipc")
    return frozenset(names)


def violations(spec: ContainerSpec) -> list[tuple[str, str]]:
    """(field, message) for every entry the table refuses."""
    found = []
    for kind in TABLE:
        written = _written(spec, kind)
        if spec.class_ == "debug":
            if written not in (None, Sharing.PARENT):
                found.append((f"namespaces.{kind}", "a debug container enters its parent's namespaces"))
        elif written is not None and written not in _row(spec, kind).allowed:
            allowed = " or ".join(sharing.value for sharing in _row(spec, kind).allowed)
            message = f"{written.value} is not possible: {_row(spec, kind).reason}; allowed here: {allowed}"
            found.append((f"namespaces.{kind}", message))
    if spec.class_ != "debug":
        found += _hostname_violations(spec)
    if spec.namespaces.shm_size is not None and effective(spec)["ipc"] is not Sharing.PRIVATE:
        found.append(("namespaces.shmSize", "needs a private ipc namespace"))
    return found


def _hostname_violations(spec: ContainerSpec) -> list[tuple[str, str]]:
    if spec.hostname is None:
        return []
    if spec.parent is not None:
        return [("hostname", "a nested container shares its parent's uts namespace, and with it the host name")]
    if spec.namespaces.uts == "host":
        return [("namespaces.uts", "host is not possible with a hostname: it would rename the host")]
    return []
