"""A git repository as a source of specs: fetched again and again, read commit by commit.

    fetch ─▶ is it new? ─▶ is it signed? ─▶ has it specs? ─▶ keep it ─▶ hint ─▶ list

Invariants: what is listed is always one whole commit, the last good one; a remote that is lost changes nothing; a
branch, a path or specs that have vanished make the listing unknown, never shorter; a commit that is not signed as
it must be is never listed. Without any network the commit that was kept last goes on, over restarts too.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from reconciler.spec.errors import SpecError
from reconciler.spec.loader import MAX_BYTES, Parsed, load_bytes
from reconciler.spec.sources.git.address import GitAddress
from reconciler.spec.sources.git.command import GitFailed
from reconciler.spec.sources.git.contents import Blob, links_in, select
from reconciler.spec.sources.git.repository import NoSuchBranch, Repository
from reconciler.spec.sources.listing import FileEntry, Listing, ListingState

MAX_FILES = 10_000
MAX_WAIT = 300.0
"""Seconds between two tries at a remote that is lost, at most; unless the interval is longer."""
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why the newest commit is not the one listed. vanished: there is nothing where the specs should be."""

    why: str
    since: float
    vanished: bool = False
    attempts: int = 1


class _Vanished(GitFailed):
    """The commit has no spec where they should be."""


class GitSource:
    """directory: where its repositories are kept; signers: see `Repository.verify`, None: no signature is asked for.
    `on_hint` is called from a thread of its own."""

    def __init__(
        self,
        address: GitAddress,
        directory: Path,
        on_hint: Callable[[], None],
        *,
        interval: float,
        signers: Path | None,
        clock: Callable[[], float],
    ) -> None:
        self._address, self._on_hint = address, on_hint
        self._interval, self._signers, self._clock = interval, signers, clock
        name = hashlib.sha256(address.identity.encode()).hexdigest()[:16]
        self._repository = Repository(directory / name, address)
        self._lock = threading.Lock()
        self._listing: Listing | None = None
        self._trouble: _Trouble | None = None
        self._parsed: dict[tuple[str, bool], tuple[str, Parsed]] = {}
        self._loaded = False
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def identity(self) -> str:
        return self._address.identity

    @property
    def note(self) -> str:
        trouble, listing = self._trouble, self._listing
        if trouble is None:
            return ""
        since = datetime.fromtimestamp(trouble.since, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        commit = listing.commit if listing is not None else None
        goes_on = f"commit {commit.id} goes on" if commit else "nothing is known of it yet"
        return f"since {since}: {trouble.why}; {goes_on}"

    def start(self) -> None:
        """What was kept last is known when this returns; what is new comes later."""
        with self._lock:
            self._load()
        self._thread = threading.Thread(target=self._poll, name="git", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._repository.stop()
        if self._thread is not None:
            self._thread.join()

    def refresh(self) -> str:
        """Fetch now."""
        with self._lock:
            before = self._load()
            trouble = self._fetch(before)
            changed = (self._trouble is None) != (trouble is None) or before is not self._listing
            self._trouble = trouble
        if changed and not self._stopped.is_set():
            self._on_hint()
        return self.note

    def list(self) -> Listing:
        """The first one waits until something was kept or a fetch was tried; nothing else does."""
        if self._listing is None and self._trouble is None:
            with self._lock:
                known = self._load() is not None or self._trouble is not None
            if not known:
                self.refresh()
        listing, trouble = self._listing, self._trouble
        if listing is None:
            return Listing(ListingState.UNKNOWN, trouble.why if trouble else "it was not fetched yet")
        if trouble is not None and trouble.vanished:
            return replace(listing, state=ListingState.UNKNOWN, reason=trouble.why)
        return listing

    # -- fetching -----------------------------------------------------------------------------------

    def _poll(self) -> None:
        while not self._stopped.is_set():
            self.refresh()
            self._stopped.wait(self._pause() * random.uniform(1 - _JITTER, 1 + _JITTER))

    def _pause(self) -> float:
        """Longer from failure to failure, for as long as the remote is lost."""
        attempts = self._trouble.attempts if self._trouble is not None else 1
        longest = max(self._interval, MAX_WAIT)
        return min(self._interval * 2.0 ** min(attempts - 1, 20), longest)

    def _fetch(self, before: Listing | None) -> _Trouble | None:
        """Goes on to the newest commit, or says why not. The lock is held."""
        try:
            commit = self._repository.tip()
            if before is not None and before.commit is not None and before.commit.id == commit:
                return None
            commit = self._repository.fetch()
        except NoSuchBranch as error:
            return self._troubled(str(error), vanished=True)
        except (GitFailed, OSError) as error:
            attempts = self._trouble.attempts + 1 if self._trouble is not None else 1
            vanished = self._trouble is not None and self._trouble.vanished
            return replace(self._troubled(f"it cannot be fetched: {error}", vanished=vanished), attempts=attempts)
        try:
            self._listing = self._read(commit)
            self._repository.keep(commit)
        except _Vanished as error:
            return self._troubled(str(error), vanished=True)
        except (GitFailed, OSError, ValueError) as error:
            return self._troubled(str(error))
        return None

    def _troubled(self, why: str, *, vanished: bool = False) -> _Trouble:
        before = self._trouble
        since = before.since if before is not None and before.why == why else self._clock()
        return _Trouble(why, since, vanished)

    def _load(self) -> Listing | None:
        """What is known, first of all the commit that was kept last. The lock is held."""
        if self._loaded:
            return self._listing
        self._loaded = True
        commit = self._repository.good()
        if commit is not None:
            try:
                self._listing = self._read(commit)
            except (GitFailed, OSError, ValueError) as error:
                self._trouble = self._troubled(f"the commit that was kept last cannot be used: {error}")
        elif self._repository.damaged():
            self._repository.forget()
        return self._listing

    # -- reading ------------------------------------------------------------------------------------

    def _read(self, commit: str) -> Listing:
        """Raises _Vanished, GitFailed."""
        if self._signers is not None:
            try:
                self._repository.verify(commit, self._signers)
            except GitFailed as error:
                raise GitFailed(f"commit {commit} is not signed by whom {self._signers} allows: {error}") from None
        tree = self._repository.tree(commit)
        selection = select(tree, self._repository.read(links_in(tree)), self._address.path)
        if not selection.files:
            where = f"below {self._address.path}" if self._address.path else "in it"
            raise _Vanished(f"commit {commit} has no spec file {where}")
        if len(selection.files) > MAX_FILES:
            raise GitFailed(f"commit {commit} has {len(selection.files)} spec files; {MAX_FILES} are allowed")
        files = self._parse(selection.files)
        about = self._repository.describe(commit)
        return Listing(ListingState.OK, files=files, ignored=tuple(selection.ignored), commit=about)

    def _parse(self, blobs: dict[str, Blob]) -> tuple[FileEntry, ...]:
        keys = {path: (blob.id, path.endswith(".json")) for path, blob in blobs.items()}
        fresh = {blob.id for path, blob in blobs.items() if keys[path] not in self._parsed and blob.size <= MAX_BYTES}
        contents = self._repository.read(sorted(fresh))
        parsed: dict[tuple[str, bool], tuple[str, Parsed]] = {}
        entries = []
        for path, blob in blobs.items():
            if blob.size > MAX_BYTES:
                message = f"the file is {blob.size} bytes long; {MAX_BYTES // 1024} KiB are allowed"
                entries.append(FileEntry(path, "", Parsed(errors=(SpecError(path, 1, 1, "", message),))))
                continue
            key = keys[path]
            if (known := parsed.get(key) or self._parsed.get(key)) is None:
                known = hashlib.sha256(contents[blob.id]).hexdigest(), load_bytes(contents[blob.id], path)
            parsed[key] = known
            entries.append(FileEntry(path, known[0], known[1].in_file(path)))
        self._parsed = parsed
        return tuple(entries)
