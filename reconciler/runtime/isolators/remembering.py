"""What an isolator must know of a container after a restart of the agent: a value in `Context.runtime_dir`, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from reconciler.errors import Retryable
from reconciler.runtime import durable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def read(path: Path, kind: type[T]) -> T | None:
    """None when there is none. Raises Retryable for what is no such value."""
    try:
        return kind(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise Retryable(f"{path} cannot be read: {error}") from error


def write(path: Path, value: DataclassInstance) -> None:
    durable.replace(path, json.dumps(asdict(value)).encode(), sync=False)
