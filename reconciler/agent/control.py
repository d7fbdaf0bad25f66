"""The agent's control socket, RUNTIME/agent.sock: JSON lines, one request and one answer per connection.

    {"op": "ping"}                                         {"ok": true, "pid": …, "source": …}
    {"op": "apply", "source": …, "timeout": seconds}       {"ok": true, "outcome": {…}}
    {"op": "destroy", "names": […]}                        {"ok": true} │ {"ok": false, "error": …}
    {"op": "suspend", "names": […], "by": who, "timeout": seconds}, {"op": "resume", "names": […]}     as for apply
    {"op": "rollback", "name": …, "to": number │ null, "by": who}, {"op": "rollforward", "name": …}    as for apply
    {"op": "checks"}                                       {"ok": true, "checks": {name: [as in `health.as_json`]}}
    {"op": "figures"}                                      {"ok": true, "figures": {as in `loop.figures`}}
    {"op": "approve", "names": […] │ null}                 null: everything that is held

For its owner and root alone: the socket is mode 0600, and who connects is checked by SO_PEERCRED. The client
half is standard library only.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from reconciler.errors import ReconcilerError

Request = Mapping[str, Any]
Answer = dict[str, Any]
Handler = Callable[[Request], Awaitable[Answer]]

_LIMIT = 64 * 1024
_REQUEST_SECONDS = 5.0
_PEERCRED = struct.Struct("3i")


class Server:
    """Serves `handlers` by op. A request that cannot be read is answered with an error, never with silence."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._inode: int | None = None

    async def start(self) -> None:
        """Takes the place of what a dead agent left; call it only while holding the lock."""
        self._path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        umask = os.umask(0o177)
        try:
            sock.bind(f"/proc/self/fd/{directory}/{self._path.name}")  # longer than sockaddr_un allows, if need be
        finally:
            os.umask(umask)
            os.close(directory)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=_LIMIT)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(reader, writer.get_extra_info("socket"))
            writer.write(json.dumps(answer).encode() + b"\n")
            async with asyncio.timeout(_REQUEST_SECONDS):
                await writer.drain()
        except (OSError, TimeoutError):
            pass  # who asked has gone
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, sock: socket.socket) -> Answer:
        if not _trusted(sock):
            return {"ok": False, "error": "only the agent's own user and root may ask"}
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = json.loads(await reader.readline())
            handler = self._handlers[request["op"]]
        except (ValueError, KeyError, TypeError, TimeoutError):
            return {"ok": False, "error": f"not a request; there are: {', '.join(sorted(self._handlers))}"}
        try:
            return await handler(request)
        except ReconcilerError as error:
            return {"ok": False, "error": error.message, "reason": error.reason.value}


def _trusted(sock: socket.socket) -> bool:
    _, uid, _ = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    return uid in (0, os.geteuid())


def ask(path: Path, request: Request, *, timeout: float | None) -> Answer:
    """One request to a live agent. Raises ReconcilerError for its refusal, ConnectionError when there is no agent."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.settimeout(timeout)
            sock.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
        sock.sendall(json.dumps(dict(request)).encode() + b"\n")
        with sock.makefile("rb") as file:
            line = file.readline()
    if not line:
        raise ConnectionResetError("the agent went away before it answered")
    answer: Answer = json.loads(line)
    if not answer.get("ok"):
        raise ReconcilerError(str(answer.get("error")))
    return answer
