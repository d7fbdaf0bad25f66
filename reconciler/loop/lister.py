"""Reads the source off the event loop. A listing that hangs (a dead network file system) makes the source
unknown, and is not started a second time while the first one lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reconciler.runtime.threads import in_thread
from reconciler.spec.sources.listing import Listing, ListingState
from reconciler.spec.sources.source import Source


class Lister:
    def __init__(self, source: Source, on_answer: Callable[[], None], *, patience: float) -> None:
        self._source = source
        self._on_answer = on_answer
        self._patience = patience
        self._late: asyncio.Task[Listing] | None = None

    async def list(self) -> Listing:
        task = self._late or asyncio.create_task(in_thread(self._source.list), name="listing")
        late, self._late = self._late is not None, None
        done, _ = await asyncio.wait({task}, timeout=0 if late else self._patience)
        if done:
            return task.result()
        self._late = task
        if not late:
            task.add_done_callback(lambda _: self._on_answer())
        reason = f"listing {self._source.identity} takes longer than {self._patience:g} s; it goes on"
        return Listing(ListingState.UNKNOWN, reason)

    def close(self) -> None:
        if self._late is not None:
            self._late.cancel()
