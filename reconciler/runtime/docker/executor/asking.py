"""An engine's API in as little memory as can be: HTTP/1.0, in which an answer is what comes until the end of the
connection. Standard library only: the keeper imports this.
"""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

_CHUNK = 1 << 16


def begin(url: str, method: str, path: str, seconds: float) -> socket.socket:
    """The connection, with the request sent. seconds: for each step of it. Raises OSError."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        address: Any = parts.path
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        address = (parts.hostname or "localhost", parts.port or 2375)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
        sock.sendall(f"{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Length: 0\r\n\r\n".encode())
    except BaseException:
        sock.close()
        raise
    return sock


def ask(url: str, method: str, path: str, seconds: float) -> tuple[int, Any]:
    """(status of HTTP, what the JSON of the answer means, None for none). Raises OSError."""
    with begin(url, method, path, seconds) as sock:
        received = b""
        while piece := sock.recv(_CHUNK):
            received += piece
    return understood(received)


def understood(received: bytes) -> tuple[int, Any]:
    """A whole answer. Raises OSError for one that is none, or was cut off."""
    head, _, body = received.partition(b"\r\n\r\n")
    try:
        status = int(head.split(None, 2)[1])
        return status, json.loads(body) if body.strip() else None
    except (IndexError, ValueError) as error:
        raise OSError("no answer that could be understood") from error
