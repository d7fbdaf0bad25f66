"""An engine's pull of an image over a connection of its own: closed, the engine gives the pull up. The docker SDK's has
no end but its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from reconciler.runtime.docker import wire
from reconciler.runtime.docker.engine import EngineLost, Refused

CONNECT_SECONDS = 10.0
_SAY_EVERY = 1.0
_CHUNK = 1 << 16


class Pull:
    """authorization: X-Registry-Auth, as the engine's API has it; "" for none."""

    def __init__(self, url: str, image: str, authorization: str) -> None:
        self._url, self._image, self._authorization = url, image, authorization
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._stopped = False

    def run(self, say: Callable[[str], None]) -> None:
        """Blocks. say: told how far it is. Raises Refused with the engine's words, EngineLost."""
        connection = wire.connection(self._url, CONNECT_SECONDS)
        try:
            connection.connect()
            if self._held(connection.sock):
                self._follow(self._lines(connection), say)
        except (OSError, http.client.HTTPException) as error:
            raise EngineLost(self._url, str(error) or type(error).__name__) from error
        finally:
            with self._lock:
                self._sock = None
            connection.close()

    def stop(self) -> None:
        """From any thread, at any time, more than once."""
        with self._lock:
            self._stopped = True
            if self._sock is not None:
                with contextlib.suppress(OSError):  # the engine has closed it
                    self._sock.shutdown(socket.SHUT_RDWR)

    def _held(self, sock: socket.socket) -> bool:
        sock.settimeout(None)
        with self._lock:
            self._sock = sock
            return not self._stopped

    def _lines(self, connection: http.client.HTTPConnection) -> Iterator[dict[str, Any]]:
        repository, tag = _parts(self._image)
        headers = {"X-Registry-Auth": self._authorization} if self._authorization else {}
        connection.request("POST", f"/images/create?{urlencode({'fromImage': repository, 'tag': tag})}", b"", headers)
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise Refused(answer.status, _words(answer.read()))
        rest = b""
        while data := answer.read1(_CHUNK):  # unlike its lines, it says when an answer is cut off
            *lines, rest = (rest + data).split(b"\n")
            yield from (json.loads(line) for line in lines if line.strip())

    def _follow(self, lines: Iterator[dict[str, Any]], say: Callable[[str], None]) -> None:
        """Its errors come in the stream, with a status of 200."""
        told, layers = time.monotonic(), dict[str, bool]()
        for line in lines:
            if "error" in line:
                raise Refused(500, str(line["error"]))
            if "id" in line:
                layers[line["id"]] = line.get("status") in ("Pull complete", "Already exists")
            if time.monotonic() - told > _SAY_EVERY:
                told = time.monotonic()
                say(f"pulling {self._image}: {sum(layers.values())} of {len(layers)} layers")


def _words(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.decode(errors="replace").split())


def _parts(image: str) -> tuple[str, str]:
    if "@" in image:
        repository, _, digest = image.partition("@")
        return repository, digest
    repository, _, tag = image.rpartition(":")
    return repository, tag
