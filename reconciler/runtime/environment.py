"""The variables that a spec gives its container: values, contents of files, and secrets apart from both; and those
that hooks add, where the spec has none of that name.

A secret's content goes to the payload by a descriptor of its own and is in no plan: the payload reads it right before
it execs. One newline at the end of a file is no part of its content.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.referenced import read
from reconciler.spec.model import EnvFromSecret
from reconciler.spec.references import ENV_LIMIT


@dataclass(frozen=True, slots=True)
class Environment:
    """plain: by name. secret: name → content."""

    plain: Mapping[str, str] = field(default_factory=dict)
    secret: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def roles(self) -> dict[str, str]:
        """Variable → the descriptor that has its content."""
        return {name: f"env-{number}" for number, name in enumerate(self.secret)}

    @property
    def contents(self) -> dict[str, bytes]:
        """By role."""
        return {role: self.secret[name] for name, role in self.roles.items()}


def gather(config: ContainerConfig) -> Environment:
    """Reads files. Raises Retryable for one that cannot be a variable now."""
    plain: dict[str, str] = {}
    secret: dict[str, bytes] = {}
    for name, value in config.spec.env.items():
        if isinstance(value, str):
            plain[name] = value
        elif isinstance(value, EnvFromSecret):
            secret[name] = _content(config, name, value.secret_file)
        else:
            plain[name] = os.fsdecode(_content(config, name, value.from_file))
    added = {name: value for name, value in config.env.items() if name not in config.spec.env}
    return Environment({**added, **plain}, secret)


def _content(config: ContainerConfig, name: str, path: str) -> bytes:
    data = read(config, f"env.{name}", path, ENV_LIMIT)
    if b"\0" in data:
        raise Retryable(f"{config.name}: spec.env.{name}: {path} has a zero byte, which no variable can hold")
    return data.removesuffix(b"\n")
