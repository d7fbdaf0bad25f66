"""Schemes beyond http, https and file: those that fsspec knows, if it is installed (the extra `fsspec`).

Only a spec that names such a scheme has fsspec imported: by the agent, to see whether it can be had, and by the
fetcher's child. What it has to know, such as credentials, variables of the agent's tell it that begin with FSSPEC_.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.runtime.fetcher.request import FetchError
from reconciler.spec.uris import foreign

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

VARIABLES = "FSSPEC_"


def refusals(spec: ContainerSpec) -> list[str]:
    """Why what a spec has fetched never can be here, a sentence each."""
    return [
        f"spec.uris[{number}].uri: {why}"
        for number, one in enumerate(spec.uris)
        if (scheme := foreign(one.uri)) is not None and (why := _lacking(scheme))
    ]


def _lacking(scheme: str) -> str:
    if home() is None:
        return f"{scheme}:// is fetched through fsspec, which is not installed: pip install 'reconciler[fsspec]'"
    try:
        prepare(scheme)
    except ValueError:
        return f"fsspec knows no {scheme}://"
    except ImportError as error:
        return f"{scheme}:// is not to be had: {error}"
    return ""


def home() -> str | None:
    """Where fsspec, and what it needs, is imported from; None without it."""
    found = importlib.util.find_spec("fsspec")
    return None if found is None or found.origin is None else str(Path(found.origin).parents[1])


@contextlib.contextmanager
def opened(source: str) -> Iterator[tuple[Callable[[int], bytes], int | None]]:
    """What reads up to so many bytes of it, and how many there are, if that is known. Raises FetchError, also later,
    for whatever its file system finds wrong."""
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(source)
        with files.open(path, "rb") as file:
            yield file.read, file.size
    except (FetchError, OSError, MemoryError):
        raise
    except Exception as error:  # each file system has its own
        raise FetchError(f"cannot be read: {type(error).__name__}: {error}") from error


def prepare(scheme: str) -> None:
    """Import what is needed for it, which may later not be readable any more. Raises ValueError, ImportError."""
    from fsspec import get_filesystem_class

    get_filesystem_class(scheme)
