"""`run --metrics ADDRESS:PORT`: the metrics over HTTP, for whoever is on this machine.

On a loopback address only: there is neither a password nor encryption, and metrics tell names and what they do.
GET and HEAD of /metrics, one answer per connection. One look at the kernel at a time, however many ask.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable

from reconciler.agent.metrics import CONTENT_TYPE
from reconciler.errors import ReconcilerError

PATH = "/metrics"
_LONGEST = 8192
_SECONDS = 10.0


def address(given: str) -> tuple[str, int]:
    """(address, port) of ADDRESS:PORT. Raises ReconcilerError for what is none, or not of this machine alone."""
    host, _, port = given.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local, host = host == "localhost", "127.0.0.1"
    if not local:
        raise ReconcilerError(f"--metrics {given}: must be ADDRESS:PORT on this machine alone, such as 127.0.0.1:9650")
    if not port.isdecimal() or int(port) > 65535:
        raise ReconcilerError(f"--metrics {given}: there is no such port")
    return host, int(port)


class Scraping:
    """look: the text of the metrics."""

    def __init__(self, given: str, look: Callable[[], Awaitable[str]]) -> None:
        self._given, self._address = given, address(given)
        self._look = look
        self._turn = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """The URL. Raises ReconcilerError when the port cannot be had."""
        host, port = self._address
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=_LONGEST)
        except OSError as error:
            raise ReconcilerError(f"--metrics {self._given}: {error.strerror or error}") from error
        port = self._server.sockets[0].getsockname()[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                writer.write(await self._answer(*head.split("\r\n", 1)[0].split(" ")))
                await writer.drain()
        except (OSError, TimeoutError, EOFError, TypeError, asyncio.LimitOverrunError):
            pass  # it said nothing that could be answered, or has gone
        finally:
            writer.close()

    async def _answer(self, method: str, target: str, version: str) -> bytes:
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", "only GET and HEAD\n")
        if target.partition("?")[0] != PATH:
            return _response("404 Not Found", f"the metrics are at {PATH}\n")
        try:
            async with self._turn:
                text = await self._look()
        except (OSError, ReconcilerError) as error:
            return _response("503 Service Unavailable", f"{error}\n")
        return _response("200 OK", text, body=method == "GET")


def _response(status: str, text: str, *, body: bool = True) -> bytes:
    content = text.encode()
    fields = {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(content)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + (content if body else b"")
