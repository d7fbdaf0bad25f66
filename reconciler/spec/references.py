"""The files of the host whose content is part of what a spec asks for. Pure.

Invariant: a reference is named by the field that makes it, so that a changed content has a place in the spec.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from enum import Enum

from reconciler.spec.model import ContainerSpec, EnvFromFile, EnvFromSecret

ENV_LIMIT = 64 * 1024
"""Bytes of a variable's content; the kernel takes 128 KiB with the name (execve(2))."""
SECRET_LIMIT = 1024 * 1024


class Kind(Enum):
    ENV = "env"
    SECRET_ENV = "secret env"
    SECRET = "secret"
    MOUNTED = "mounted"


@dataclass(frozen=True, slots=True)
class Reference:
    """field: as written, below `spec`; path: absolute."""

    field: str
    path: str
    kind: Kind


def located(path: str, base: str) -> str:
    """Relative paths begin at `base`, the directory of the spec file."""
    return posixpath.normpath(posixpath.join(base, path))


def references(spec: ContainerSpec, base: str) -> tuple[Reference, ...]:
    """Those whose change counts, in the order of the fields."""
    found = []
    for name, value in sorted(spec.env.items()):
        if isinstance(value, EnvFromFile):
            found.append(Reference(f"env.{name}", located(value.from_file, base), Kind.ENV))
        elif isinstance(value, EnvFromSecret):
            found.append(Reference(f"env.{name}", located(value.secret_file, base), Kind.SECRET_ENV))
    for number, volume in enumerate(spec.volumes):
        kind = {"hostPath": Kind.MOUNTED, "secret": Kind.SECRET}.get(volume.type)
        if kind is not None and volume.restart_on == "content" and volume.source:
            found.append(Reference(f"volumes[{number}].source", located(volume.source, base), kind))
    return tuple(found)
