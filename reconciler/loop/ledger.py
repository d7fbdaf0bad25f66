"""The records, in memory and through the journal: what the loop reads of its own past.

Invariant: memory never says more than the journal was told; a record is saved before what it describes
is launched, and forgotten after it is certainly gone. Writes are made durable together, off the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reconciler.errors import Retryable
from reconciler.loop import keeping, revisions, suspending
from reconciler.loop.events import Event
from reconciler.loop.revisions import Reverted, Revision
from reconciler.loop.suspending import Suspension
from reconciler.loop.values import Journal, Record, Recorded, Row, Tree

log = logging.getLogger(__name__)


class Marked:
    """Names that a mark of one kind is on. What cannot be recorded now is by the next `be`, and counts all the same."""

    def __init__(self, journal: Journal, kind: str) -> None:
        self._journal, self._kind = journal, kind
        self.names = self._marked = frozenset[str]()

    def load(self) -> None:
        self.names = self._marked = frozenset(self._journal.marks(self._kind))

    def be(self, names: frozenset[str]) -> None:
        self.names = names
        for name in sorted(names ^ self._marked):
            try:
                self._journal.mark(self._kind, name, {} if name in names else None)
            except OSError as error:
                log.error("%s: that it is %s, or no longer, could not be recorded: %s", name, self._kind, error)
                return
            self._marked ^= {name}


class Ledger:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._records: dict[str, Record] = {}
        self._unreadable: dict[str, str] = {}
        self._sandboxes: dict[str, Path] = {}
        self._suspended: dict[str, Suspension] = {}
        self.held = Marked(journal, keeping.MARK)  # by the mass-deletion guard
        self.approved = Marked(journal, keeping.APPROVED)  # that they are destroyed
        self._revisions: dict[str, tuple[Revision, ...]] = {}
        self._fresh: set[str] = set()  # names whose revisions are not on disk yet
        self._rollbacks: dict[str, Reverted] = {}
        self._unflushed = False
        self._published: tuple[tuple[Row, ...], Mapping[str, str]] | None = None
        self._wanted: tuple[tuple[Row, ...], Mapping[str, str]] | None = None
        self._told: list[Event] = []
        self._writing: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    def load(self) -> None:
        recorded = self._journal.load()
        self._records, self._unreadable = dict(recorded.records), dict(recorded.unreadable)
        marks = self._journal.marks(suspending.MARK)
        self._suspended = {name: Suspension.of(details) for name, details in marks.items()}
        self.held.load()
        self.approved.load()
        self._rollbacks, failed = revisions.rollbacks(self._journal.marks(revisions.MARK), self.revisions)
        for name, why in failed.items():
            log.error("%s: its rollback is not carried out: %s", name, why)

    def ready(self) -> Mapping[str, int]:
        return self._journal.ready()

    @property
    def recorded(self) -> Recorded:
        return Recorded(dict(self._records), dict(self._unreadable))

    @property
    def suspended(self) -> Mapping[str, Suspension]:
        """By command."""
        return self._suspended

    def suspend(self, name: str, suspension: Suspension | None) -> None:
        """None: it is no longer. Raises Retryable, and then nothing has changed."""
        try:
            self._journal.mark(suspending.MARK, name, suspension.details() if suspension else None)
        except OSError as error:
            raise Retryable(f"{name}: that it is suspended, or no longer, could not be recorded: {error}") from error
        self._suspended = {other: one for other, one in self._suspended.items() if other != name}
        if suspension is not None:
            self._suspended[name] = suspension

    # -- revisions

    def revisions(self, name: str) -> tuple[Revision, ...]:
        """Oldest first."""
        if name not in self._revisions:
            self._revisions[name] = self._journal.revisions(name)
        return self._revisions[name]

    def remember(self, name: str, tree: Tree, at: float) -> None:
        """Of what was applied: it goes when the record does."""
        record = self._records.get(name)
        if record is None or record.deleting or record.origin.source != tree.origin.source:
            return
        known = self.revisions(name)
        if (now := revisions.remembered(known, tree, at)) != known:
            self._revisions[name] = now
            self._fresh.add(name)

    @property
    def rollbacks(self) -> Mapping[str, Reverted]:
        """By top-level name."""
        return self._rollbacks

    def roll_back(self, name: str, to: Reverted | None) -> None:
        """None: it is no longer. Raises Retryable, and then nothing has changed."""
        try:
            self._journal.mark(revisions.MARK, name, to.rollback.details() if to else None)
        except OSError as error:
            raise Retryable(f"{name}: that it is rolled back, or no longer, could not be recorded: {error}") from error
        self._rollbacks = {other: one for other, one in self._rollbacks.items() if other != name}
        if to is not None:
            self._rollbacks[name] = to

    def get(self, name: str) -> Record | None:
        return self._records.get(name)

    def below(self, name: str) -> tuple[Record, ...]:
        """Records of what is nested in `name`, at any depth."""
        return tuple(self._records[other] for other in sorted(self._records) if other.startswith(name + "."))

    def sandbox(self, name: str) -> Path:
        if (path := self._sandboxes.get(name)) is None:
            path = self._sandboxes[name] = self._journal.sandbox(name)
        return path

    def logs(self, name: str) -> Path:
        return self._journal.logs(name)

    def save(self, record: Record) -> None:
        self._journal.save(record)
        self._records[record.name] = record
        self._unflushed = True

    async def forget(self, name: str) -> None:
        """Removing logs and sandbox can take long, so each name has a thread to itself."""
        if name in self._rollbacks:
            self.roll_back(name, None)
        await asyncio.to_thread(self._journal.remove, name)
        self._revisions.pop(name, None)
        self._records.pop(name, None)
        self._unreadable.pop(name, None)
        self._sandboxes.pop(name, None)
        self._unflushed = True

    def tell(self, event: Event) -> None:
        """Written down with the rows of this pass."""
        self._told.append(event)

    def publish(self, rows: Iterable[Row], notes: Mapping[str, str]) -> None:
        """Have the records made durable and the rows readable, soon and in this order."""
        self._wanted = tuple(rows), dict(notes)
        if self._writing is None and self._unwritten():
            self._writing = asyncio.create_task(self._write(), name="journal")

    async def drain(self) -> None:
        """Until everything told so far is on disk. Raises what kept it from being written."""
        while self._writing is not None or self._unflushed or self._fresh:
            if self._writing is None:
                self._writing = asyncio.create_task(self._write(), name="journal")
            await self._writing

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _unwritten(self) -> bool:
        return self._unflushed or bool(self._told or self._fresh) or self._wanted != self._published

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._unwritten():
                if self._unflushed:
                    self._unflushed = False
                    try:
                        await loop.run_in_executor(self._threads, self._journal.flush)
                    except OSError:
                        self._unflushed = True
                        raise
                if (wanted := self._wanted) is None:
                    return
                told, self._told = self._told, []
                await loop.run_in_executor(self._threads, self._journal.publish, *wanted, told)
                self._published = wanted
                await self._write_revisions(loop)
        finally:
            self._writing = None

    async def _write_revisions(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._fresh:
            name = self._fresh.pop()
            try:
                await loop.run_in_executor(self._threads, self._journal.remember, name, self.revisions(name))
            except OSError:
                self._fresh.add(name)
                raise
