"""What one look at a source found: the truth of that moment, as values.

Invariant: "could not be seen" is never "is not there". An unknown listing, a busy file and a file
that could not be read are each said, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.spec.loader import Parsed
from reconciler.spec.references import Kind


class ListingState(StrEnum):
    OK = "ok"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A spec file that was read. sha256 is "" where it could not be; then `parsed` has the error."""

    path: str
    sha256: str
    parsed: Parsed


@dataclass(frozen=True, slots=True)
class Content:
    """What a file that a spec refers to holds: a keyed hash, "<key's id>:<hash>", or why that cannot be told.
    writing: somebody is still writing it."""

    hash: str = ""
    error: str = ""
    writing: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """What a listing was read from. url: as the source was given; id: in full; time: its committer's, in seconds."""

    url: str
    id: str
    author: str
    subject: str
    time: float


@dataclass(frozen=True, slots=True)
class Listing:
    """One full listing.

    state:        unknown: the directory, or a part of it, could not be seen; nothing may be pruned
    reason:       why it is unknown
    files:        every spec file read, by path
    ignored:      (path, why) of what is in the directory and is no spec file
    busy:         spec files that someone is still writing; not read
    settled:      no file has vanished so recently that it may be about to come back
    contents:     (path, what for) → content, of the files that specs refer to, where they are followed
    retry_after:  seconds after which looking again is worth it, None when only an event would change it
    commit:       of a source that has such
    """

    state: ListingState
    reason: str = ""
    files: tuple[FileEntry, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    busy: tuple[str, ...] = ()
    settled: bool = True
    retry_after: float | None = None
    contents: Mapping[tuple[str, Kind], Content] = field(default_factory=dict)
    commit: Commit | None = None
