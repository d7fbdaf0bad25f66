"""Blocking work in threads that do not keep the interpreter from ending: it may wait long, or for ever, for a disk or a
network, and what waits there keeps nothing else waiting. A thread that is done serves again for a while."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

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


def begin(work: Callable[[], None]) -> None:
    """Have it done. What it raises ends its thread."""
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
    worker.work.put(work)


def telling(say: Callable[[str], None]) -> Callable[[str], None]:
    """For other threads, to tell something to the loop that runs now; nobody hears it once that has ended."""
    loop = asyncio.get_running_loop()

    def tell(what: str) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(say, what)

    return tell


async def in_thread(work: Callable[[], T]) -> T:
    """What it returns or raises. Cancelled, the thread goes on and its result is lost."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def body() -> None:
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - the last frame of a thread: handed on
            failed = error
        try:
            loop.call_soon_threadsafe(settle, result, failed)
        except RuntimeError:
            return  # the loop has ended

    begin(body)
    return await future
