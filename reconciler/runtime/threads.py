"""Blocking work in a thread of its own, which does not keep the interpreter from ending: it may wait long for a disk or
a network, and what waits there takes no place in the event loop's own pool."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def telling(say: Callable[[str], None]) -> Callable[[str], None]:
    """For other threads, to tell something to the loop that runs now; nobody hears it once that has ended."""
    loop = asyncio.get_running_loop()

    def tell(what: str) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(say, what)

    return tell


async def in_thread(work: Callable[[], T], name: str) -> T:
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

    threading.Thread(target=body, name=name, daemon=True).start()
    return await future
