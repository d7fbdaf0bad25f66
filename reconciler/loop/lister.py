"""Reads the source off the event loop. A listing that hangs (a dead network file system) makes the source
unknown, and is not started a second time while the first one lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from reconciler.spec.sources.listing import Listing, ListingState
from reconciler.spec.sources.source import Source


class Lister:
    def __init__(self, source: Source, on_answer: Callable[[], None], *, patience: float) -> None:
        self._source = source
        self._on_answer = on_answer
        self._patience = patience
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="listing")
        self._late: asyncio.Future[Listing] | None = None

    async def list(self) -> Listing:
        loop = asyncio.get_running_loop()
        future = self._late or loop.run_in_executor(self._threads, self._source.list)
        late, self._late = self._late is not None, None
        done, _ = await asyncio.wait({future}, timeout=0 if late else self._patience)
        if done:
            return future.result()
        self._late = future
        if not late:
            future.add_done_callback(lambda _: self._on_answer())
        reason = f"listing {self._source.identity} takes longer than {self._patience:g} s; it goes on"
        return Listing(ListingState.UNKNOWN, reason)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
