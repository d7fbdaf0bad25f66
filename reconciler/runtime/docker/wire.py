"""An engine's API over its socket with the standard library alone: for reading verbs, which must answer at once."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connection(url: str, timeout: float | None) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path, timeout)
    return http.client.HTTPConnection(parts.hostname or "localhost", parts.port or 2375, timeout=timeout)


def answers(url: str, timeout: float = 1.0) -> bool:
    try:
        get(url, "/_ping", timeout)
    except OSError:
        return False
    return True


def get(url: str, path: str, timeout: float, query: Mapping[str, Any] | None = None) -> Any:
    """What the JSON answer means; its text where it is none; None for 404. Raises OSError."""
    words = "&".join(f"{key}={quote(json.dumps(value))}" for key, value in (query or {}).items())
    asking = connection(url, timeout)
    try:
        asking.request("GET", f"{path}?{words}" if words else path)
        answer = asking.getresponse()
        text = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{path}: no answer that could be understood: {error!r}") from error
    finally:
        asking.close()
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise OSError(f"{path}: {answer.status} {text.decode(errors='replace').strip()}")
    return json.loads(text) if "json" in (answer.getheader("Content-Type") or "") else text.decode()
