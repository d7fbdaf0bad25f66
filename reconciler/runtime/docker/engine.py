"""A Docker Engine as the containerizer calls it: the docker SDK's plain API in threads of its own, each call limited.

An engine that is away, or takes too long, is *lost* (`EngineLost`, a Retryable): nothing is known about its containers
then. What it answers with an error is a `Refused`, with its status and its words. A call that hangs keeps a thread of
its own until its socket's time limit, and nothing else. What may take long has turns apart, so that no number of pulls
or checks keeps us from seeing what runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from reconciler.errors import Retryable
from reconciler.runtime.threads import in_thread
from reconciler.states import Reason

if TYPE_CHECKING:
    from docker import APIClient

SECONDS = 30.0
NOT_FOUND, CONFLICT = 404, 409
_AT_A_TIME = {"calls": 16, "pulls": 4, "checks": 64}

T = TypeVar("T")


class EngineLost(Retryable):
    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"the Docker Engine at {url} does not answer: {why}", Reason.STATE_UNKNOWN)


class Refused(Exception):
    """The engine's own words. status: of HTTP; NOT_FOUND, CONFLICT: with what is there."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    def __init__(self, url: str, seconds: float = SECONDS) -> None:
        self.url = url
        self._seconds = seconds
        self._turns = {kind: asyncio.Semaphore(count) for kind, count in _AT_A_TIME.items()}
        self._client: APIClient | None = None

    async def call(self, function: Callable[[APIClient], T], seconds: float | None = None, kind: str = "calls") -> T:
        """kind: whose turn it takes. Raises EngineLost or Refused."""
        try:
            async with asyncio.timeout(seconds or self._seconds), self._turns[kind]:
                return await in_thread(lambda: self._in_thread(function))
        except TimeoutError:
            raise EngineLost(self.url, f"no answer within {seconds or self._seconds:.0f} s") from None

    def _in_thread(self, function: Callable[[APIClient], T]) -> T:
        import requests
        from docker.errors import APIError, DockerException

        try:
            return function(self._connected())
        except APIError as error:
            status = error.status_code or 500
            raise Refused(status, str(error.explanation or error).strip()) from None
        except (requests.RequestException, DockerException) as error:
            self._client = None
            raise EngineLost(self.url, _said(error)) from None

    def _connected(self) -> APIClient:
        if self._client is None:
            from docker import APIClient  # a quarter of a second, and only where there are such containers

            self._client = APIClient(
                base_url=self.url, version="auto", timeout=self._seconds, max_pool_size=sum(_AT_A_TIME.values())
            )
        return self._client

    def events(self, labels: list[str]) -> Iterator[dict[str, Any]]:
        """Blocks between events, for a thread of the caller's own. Raises EngineLost when the stream ends."""
        import requests
        from docker import APIClient
        from docker.errors import DockerException

        try:
            client = APIClient(base_url=self.url, version="auto", timeout=None)
            yield from client.events(decode=True, filters={"type": "container", "label": labels})
        except (requests.RequestException, DockerException, OSError) as error:
            raise EngineLost(self.url, _said(error)) from None
        raise EngineLost(self.url, "it closed the stream of events")

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def _said(error: Exception) -> str:
    """The innermost cause: what wraps it repeats it at length."""
    seen: BaseException = error
    while (inner := seen.__cause__ or seen.__context__) is not None and inner is not seen:
        seen = inner
    return str(seen) or type(seen).__name__
