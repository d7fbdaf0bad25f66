"""Follows the files that specs refer to: each listing of a source comes with what their contents are now.

Invariant: content is told as a keyed hash only, so that what is written down of a secret lets nobody guess it; a file
that cannot be read is told as that, never as one that has changed, and one that hangs keeps no other waiting. Costs a
stat per file where nothing has changed.
"""

from __future__ import annotations

import hashlib
import hmac
import posixpath
import stat
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.spec.references import ENV_LIMIT, SECRET_LIMIT, Kind, Reference, references
from reconciler.spec.sources import reading
from reconciler.spec.sources.listing import Content, Listing, ListingState
from reconciler.spec.sources.patience import Patient
from reconciler.spec.sources.source import Source

MOUNTED_LIMIT = 16 * 1024 * 1024
"""Of a larger file that is mounted, the beginning, the size and the time of the last change are looked at."""
_LIMITS: Mapping[Kind, int] = {
    Kind.ENV: ENV_LIMIT,
    Kind.SECRET_ENV: ENV_LIMIT,
    Kind.SECRET: SECRET_LIMIT,
    Kind.MOUNTED: MOUNTED_LIMIT,
}
_RACY = 0.1
"""A file touched this recently may change again without its times changing."""
_RETRY = 0.2

Place = tuple[str, Kind]


@dataclass(frozen=True, slots=True)
class _Cached:
    """trusted: its identity is proof that its content is still the same."""

    identity: reading.Identity
    content: Content
    trusted: bool


class FollowedSource:
    """A source, its listings with the contents that its specs refer to. `key`: secret, and the same for as long as
    hashes are compared."""

    def __init__(self, inner: Source, key: bytes) -> None:
        self._inner, self._key = inner, key
        self._prefix = hashlib.sha256(key).hexdigest()[:8]
        self._lock = threading.Lock()
        self._cache: dict[Place, _Cached] = {}
        self._looks: Patient[Place, Content | None] = Patient(self._look)

    @property
    def identity(self) -> str:
        return self._inner.identity

    @property
    def note(self) -> str:
        return self._inner.note

    def start(self) -> None:
        self._inner.start()

    def stop(self) -> None:
        self._inner.stop()

    def refresh(self) -> str:
        return self._inner.refresh()

    def list(self) -> Listing:
        listing = self._inner.list()
        with self._lock:
            return self._followed(listing)

    def _followed(self, listing: Listing) -> Listing:
        wanted = {(one.path, one.kind) for one in _referred(listing)}
        found, hung = self._looks.all(wanted)
        contents = {place: content for place, content in found.items() if content is not None}
        contents |= dict.fromkeys(hung, Content(error="it does not answer: the file system that it is on hangs"))
        writing = any(content.writing for content in contents.values())
        if listing.state is ListingState.OK:
            self._cache = {place: cached for place, cached in self._cache.items() if place in wanted}
        if writing:
            listing = replace(listing, retry_after=min(listing.retry_after or _RETRY, _RETRY))
        if not wanted:
            return listing
        paths = {path for path, _ in wanted}
        ignored = tuple(each for each in listing.ignored if each[0] not in paths)  # no stranger in the directory
        return replace(listing, contents=contents, ignored=ignored)

    def _look(self, place: Place) -> Content | None:
        """None: not followed, being no regular file, or one that is mounted and always open for writing."""
        path, kind = place
        if not path.startswith("/"):
            why = "a relative path begins at the spec's directory, which a spec from a repository has not"
            return Content(error=f"{why}; give an absolute one")
        try:
            status = Path(path).stat()
            identity = reading.Identity.of(status)
            cached = self._cache.get((path, kind))
            if cached is not None and cached.trusted and cached.identity == identity:
                return cached.content
            if kind is Kind.MOUNTED and not stat.S_ISREG(status.st_mode):
                return None
            return self._read(path, kind)
        except reading.Busy:
            cached = self._cache.get((path, kind))
            if cached is not None:
                return cached.content
            return (
                None if kind is Kind.MOUNTED else Content(error="it is being written by another program", writing=True)
            )
        except reading.NotAFile as error:
            return Content(error=f"it is {error}, not a file")
        except OSError as error:
            return Content(error=f"it cannot be read: {error.strerror}")

    def _read(self, path: str, kind: Kind) -> Content:
        limit = _LIMITS[kind]
        read = reading.read(path, limit)
        content = self._judge(read, kind, limit)
        trusted = read.identity.age(time.time_ns()) > _RACY
        self._cache[path, kind] = _Cached(read.identity, content, trusted)
        return content

    def _judge(self, read: reading.Content, kind: Kind, limit: int) -> Content:
        data = read.data
        if len(data) > limit:
            if kind is not Kind.MOUNTED:
                return Content(error=f"it is larger than {limit} bytes")
            data += b"%d %d" % (read.identity.size, read.identity.modified)
        elif kind in (Kind.ENV, Kind.SECRET_ENV) and b"\0" in data:
            return Content(error="it has a zero byte, which no variable can hold")
        return Content(f"{self._prefix}:{hmac.new(self._key, data, hashlib.sha256).hexdigest()}")


def _referred(listing: Listing) -> set[Reference]:
    return {
        reference
        for entry in listing.files
        for document in entry.parsed.documents
        for spec in document.containers
        if spec.env or spec.volumes
        for reference in references(spec, posixpath.dirname(entry.path))
    }
