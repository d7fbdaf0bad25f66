"""Blocking work in threads that do not keep the interpreter from ending: it may wait long, or for ever, for a disk or a
network, and what waits there keeps nothing else waiting. A thread that is done serves again for a while."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")

_IDLE_SECONDS = 10.0


class _Worker:
    """Idle ones are in `_idle`, the last that was busy last; whoever takes one out of it gives it work."""

    def __init__(self) -> None:
        self.work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="blocking work", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                work = self.work.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                try:
                    _idle.remove(self)
                except ValueError:
                    continue  # somebody has just taken it
                return
            work()
            del work  # what it holds is not to live until the next
            _idle.append(self)


_idle: list[_Worker] = []


class _Daemons(Executor):
    """As many threads as there is work."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **options: Any) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **options)
            except BaseException as error:  # noqa: BLE001 - the last frame of a thread: handed on
                future.set_exception(error)
            else:
                future.set_result(result)

        try:
            worker = _idle.pop()
        except IndexError:
            worker = _Worker()
        worker.work.put(work)
        return future


_daemons = _Daemons()


def telling(say: Callable[[str], None]) -> Callable[[str], None]:
    """For other threads, to tell something to the loop that runs now; nobody hears it once that has ended."""
    loop = asyncio.get_running_loop()

    def tell(what: str) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(say, what)

    return tell


async def in_thread(work: Callable[[], T]) -> T:
    """What it returns or raises. Cancelled, the thread goes on and its result is lost."""
    return await asyncio.get_running_loop().run_in_executor(_daemons, work)
