"""A directory of spec files: `*.yaml`, `*.yml` and `*.json`, in it and below it.

Invariant: a full listing is the truth, events only hasten it; and a listing that could not be had
in full is unknown, never shorter. Nothing is ever written into the directory. Names that begin
with a dot and symlinked subdirectories are passed over; a symlinked file is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.spec.errors import SpecError
from reconciler.spec.loader import MAX_BYTES, Parsed, load_bytes
from reconciler.spec.sources import reading
from reconciler.spec.sources.listing import FileEntry, Listing, ListingState
from reconciler.spec.sources.names import SUFFIXES, no_suffix, shown
from reconciler.spec.sources.watch import Watch

__all__ = ["DirectorySource", "FileEntry", "Listing", "ListingState"]

SETTLE = 0.05
"""Seconds for which a file must be gone before it counts: `git checkout` deletes what it rewrites."""
RETRY_BUSY = 0.05
_RACY = 0.1
"""A file touched this recently may change again without its times changing."""


@dataclass(frozen=True, slots=True)
class _Cached:
    """A file as read last. trusted: its identity is proof that its content is still the same."""

    identity: reading.Identity
    entry: FileEntry
    trusted: bool


@dataclass(slots=True)
class _Walk:
    """What one pass through the directory gathers."""

    found: list[os.DirEntry[str]] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    files: list[FileEntry] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    devices: dict[str, int] = field(default_factory=dict)
    touched: float = float("inf")

    def present(self) -> set[str]:
        return {entry.path for entry in self.files} | set(self.busy)


class DirectorySource:
    """`list` may be called from any thread; `on_hint` is called from a thread of the watch."""

    def __init__(self, path: Path, on_hint: Callable[[], None]) -> None:
        self._path = os.path.normpath(path.absolute())
        self._watch = Watch(self._path, on_hint)
        self._lock = threading.Lock()
        self._cache: dict[str, _Cached] = {}
        self._parsed: dict[tuple[str, bool], Parsed] = {}
        self._known: set[str] | None = None
        self._missing: dict[str, float] = {}
        self._devices: dict[str, int] = {}

    @property
    def identity(self) -> str:
        """Absolute, and as given: what a link leads to is not part of it."""
        return self._path

    @property
    def watching(self) -> bool:
        """Events arrive; without them changes are seen only by listing."""
        return self._watch.watching

    @property
    def note(self) -> str:
        """Why there are no events, or that some were lost; "" for neither."""
        return self._watch.note

    def start(self) -> None:
        """Begin to give hints. Without a watch the source works all the same."""
        self._watch.start()

    def stop(self) -> None:
        """No hint is given once this has returned."""
        self._watch.stop()

    def refresh(self) -> str:
        """Nothing lies between the directory and a listing."""
        return ""

    def list(self) -> Listing:
        """Everything that is there now. Costs no more than stats where nothing has changed."""
        with self._lock:
            self._watch.renew()  # before looking, so that nothing falls between listing and watch
            return self._list()

    def _list(self) -> Listing:
        walk = _Walk()
        try:
            self._scan(self._path, walk)
        except OSError as error:
            walk.unseen.append(f"{self._path}: {error.strerror}")
        for entry in walk.found:
            self._take(entry, walk)
        wait = 0.0 if walk.unseen else self._settle(walk)
        settled = not walk.unseen and wait == 0.0
        if walk.busy:
            wait = min(wait or RETRY_BUSY, RETRY_BUSY)
        self._forget(walk)
        return Listing(
            ListingState.UNKNOWN if walk.unseen else ListingState.OK,
            "; ".join(walk.unseen),
            tuple(sorted(walk.files, key=lambda entry: entry.path)),
            tuple(sorted(walk.ignored)),
            tuple(sorted(walk.busy)),
            settled,
            wait or None,
        )

    def _scan(self, directory: str, walk: _Walk) -> None:
        """Gather the paths of spec files. A directory that has come to lie on another device and
        holds nothing is a mount that is missing. Raises OSError for this directory itself."""
        status = Path(directory).stat()
        age = time.time() - status.st_mtime
        walk.touched = min(walk.touched, age if age >= 0 else float("inf"))
        before = len(walk.found)
        with os.scandir(directory) as entries:
            for entry in entries:
                self._entry(entry, walk)
        if len(walk.found) == before and self._devices.get(directory, status.st_dev) != status.st_dev:
            walk.unseen.append(f"{shown(directory)}: it is empty since another file system took its place")
        else:
            walk.devices[directory] = status.st_dev

    def _entry(self, entry: os.DirEntry[str], walk: _Walk) -> None:
        if entry.name.startswith("."):
            return
        if entry.is_dir(follow_symlinks=False):
            try:
                self._scan(entry.path, walk)
            except FileNotFoundError:
                return  # removed meanwhile
            except OSError as error:
                walk.unseen.append(f"{shown(entry.path)}: {error.strerror}")
        elif shown(entry.name) != entry.name:
            walk.ignored.append((shown(entry.path), "its name is not UTF-8"))
        elif entry.is_symlink() and _leads_to_directory(entry):
            walk.ignored.append((entry.path, "a symlinked directory"))
        elif entry.name.endswith(SUFFIXES):
            walk.found.append(entry)
        else:
            walk.ignored.append((entry.path, no_suffix()))

    def _take(self, entry: os.DirEntry[str], walk: _Walk) -> None:
        """The file's content, from the cache or read; or why there is none."""
        path = entry.path
        try:
            cached = self._cache.get(path)
            if cached is None or not cached.trusted or cached.identity != reading.Identity.of(entry.stat()):
                cached = self._cache[path] = self._read(path)
            walk.files.append(cached.entry)
        except reading.Busy:
            walk.busy.append(path)
        except reading.NotAFile as error:
            walk.ignored.append((path, str(error)))
        except FileNotFoundError:
            if entry.is_symlink():
                walk.ignored.append((path, "a dangling link"))
        except OSError as error:
            if error.errno == errno.ELOOP:
                walk.ignored.append((path, "a loop of links"))
            else:
                refusal = SpecError(path, 1, 1, "", f"cannot be read: {error.strerror}")
                walk.files.append(FileEntry(path, "", Parsed(errors=(refusal,))))

    def _read(self, path: str) -> _Cached:
        content = reading.read(path, MAX_BYTES)
        sha256 = hashlib.sha256(content.data).hexdigest()
        key = (sha256, path.endswith(".json"))
        parsed = self._parsed.get(key)
        parsed = load_bytes(content.data, path) if parsed is None else parsed.in_file(path)
        self._parsed[key] = parsed
        trusted = content.identity.age(time.time_ns()) > _RACY
        return _Cached(content.identity, FileEntry(path, sha256, parsed), trusted)

    def _settle(self, walk: _Walk) -> float:
        """Seconds until the listing can be believed about what is no longer there; 0: now."""
        now, present = time.monotonic(), walk.present()
        if self._known is None:
            # nothing is known of before: what was touched just now may lack a file for a moment
            self._known = present
            return SETTLE if walk.touched < SETTLE else 0.0
        self._missing = {path: since for path, since in self._missing.items() if path not in present}
        for path in self._known - present:
            self._missing.setdefault(path, now)
        self._missing = {path: since for path, since in self._missing.items() if now - since < SETTLE}
        self._known = present
        return max((since + SETTLE - now for since in self._missing.values()), default=0.0)

    def _forget(self, walk: _Walk) -> None:
        """Caches follow what is there; under an unknown listing they stay, for when it is back."""
        if walk.unseen:
            return
        present = walk.present()
        self._devices = walk.devices
        self._cache = {path: cached for path, cached in self._cache.items() if path in present}
        hashes = {cached.entry.sha256 for cached in self._cache.values()}
        self._parsed = {key: parsed for key, parsed in self._parsed.items() if key[0] in hashes}


def _leads_to_directory(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # a loop of links, a directory out of reach: looked at again as a file
        return False
