"""The key under which contents of files that specs refer to are written down: random, one for each root.

Whoever can read the key and the records could try passwords one by one, so it is for its owner alone.
"""

from __future__ import annotations

import os

from reconciler.agent.paths import Places
from reconciler.runtime import durable
from reconciler.spec.sources.contents import FollowedSource
from reconciler.spec.sources.source import Source

_BYTES = 32


def followed(source: Source, places: Places, *, dry: bool = False) -> FollowedSource:
    """dry: nothing is written; without a key nothing was recorded under one, and any will do."""
    return FollowedSource(source, _known(places) or (os.urandom(_BYTES) if dry else _made(places)))


def _known(places: Places) -> bytes | None:
    try:
        found = places.content_key.read_bytes()
    except FileNotFoundError:
        return None
    return found if len(found) == _BYTES else None


def _made(places: Places) -> bytes:
    key = os.urandom(_BYTES)
    durable.replace(places.content_key, key, sync=True)
    return key
