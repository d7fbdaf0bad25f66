"""The canonical form of a container's spec: how it is stored, loaded again and digested.

Invariant: two specs that mean the same have the same digest, whatever the order of keys; and
`load(dump(spec), SCHEMA) == spec`. SCHEMA counts the forms that records on disk may have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from reconciler.spec.model import ContainerSpec

SCHEMA = 1


class UnreadableSpec(ValueError):
    """A stored spec that this version cannot read; the message says why."""


def dump(spec: ContainerSpec) -> dict[str, Any]:
    """What can be stored as JSON; fields with their default value are left out."""
    return spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def load(data: Mapping[str, Any], schema: int = SCHEMA) -> ContainerSpec:
    """The inverse of `dump`. Raises UnreadableSpec."""
    if schema != SCHEMA:
        raise UnreadableSpec(f"it was written in form {schema} of the spec, this version reads form {SCHEMA}")
    try:
        return ContainerSpec.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnreadableSpec(f"{where or 'the record'}: {first['msg']}") from error


def canonical(data: Mapping[str, Any]) -> bytes:
    """One byte sequence per meaning: sorted keys, no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def digest(spec: ContainerSpec) -> str:
    """sha256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical(dump(spec))).hexdigest()


def with_contents(digest: str, contents: Mapping[str, str]) -> str:
    """Of a spec that refers to files: its own digest, and what they hold, by field."""
    return hashlib.sha256(canonical({"spec": digest, **contents})).hexdigest() if contents else digest
