"""Bytes from where a source leads: an http server, a file of this host, a descriptor, what fsspec knows. Standard
library only, but for that.

Invariant: what a server says never leads anywhere but to another http server, nor from https down to http; a transfer
that ends early is an error, not a short file.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import IO, BinaryIO

from reconciler.runtime.fetcher.request import FetchError
from reconciler.spec.uris import REMOTE, foreign, is_remote, shown

CHUNK = 256 * 1024
_DESCRIPTOR = "fd:"


@dataclass(frozen=True, slots=True)
class Opened:
    """read: up to so many bytes, as soon as there are any, b"" at the end; total: bytes it is going to have, where that
    is known."""

    read: Callable[[int], bytes]
    total: int | None

    def chunks(self) -> Iterator[bytes]:
        done = 0
        while data := self.read(CHUNK if self.total is None else min(CHUNK, self.total - done)):
            done += len(data)
            yield data
        if self.total is not None and done < self.total:  # http.client takes a lost connection for the end
            raise FetchError(f"ended after {done} of {self.total} bytes")


@contextlib.contextmanager
def opened(source: str, seconds: float) -> Iterator[Opened]:
    """seconds: the longest a read may take. Raises FetchError, OSError or http.client.HTTPException."""
    if foreign(source) is not None:
        from reconciler.runtime.fetcher import schemes

        with schemes.opened(source) as (read, size):
            yield Opened(read, size)
    elif is_remote(source):
        with _answer(source, seconds) as answer:
            length = answer.headers.get("Content-Length")
            yield Opened(answer.read1, int(length) if length is not None and length.isdecimal() else None)
    else:
        with _file(source) as file:
            yield Opened(file.read, os.fstat(file.fileno()).st_size)


def _answer(source: str, seconds: float) -> http.client.HTTPResponse:
    try:
        found: http.client.HTTPResponse = _opener().open(
            urllib.request.Request(source, headers={"User-Agent": "reconciler"}), timeout=seconds
        )
    except urllib.error.HTTPError as error:
        error.close()
        raise FetchError(f"the server answers {error.code}: {error.reason}") from error
    except urllib.error.URLError as error:
        raise FetchError(f"cannot be reached: {error.reason}") from error
    return found


def _file(source: str) -> BinaryIO:
    if source.startswith(_DESCRIPTOR):
        return os.fdopen(int(source.removeprefix(_DESCRIPTOR)), "rb")
    fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hold us up
    file = os.fdopen(fd, "rb") if stat.S_ISREG(os.fstat(fd).st_mode) else None
    if file is None:
        os.close(fd)
        raise FetchError("is no ordinary file")
    return file


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme = newurl.partition(":")[0].lower()
        if scheme not in REMOTE or (req.type == "https" and scheme != "https"):
            raise FetchError(f"is redirected to {shown(newurl)}, which is not followed")
        fp.close()  # else it is read to its end first, wherever that is
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Without the handlers of file, ftp and data, which no redirect may lead to."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


LOST = (OSError, http.client.HTTPException)
"""What a read may raise when the other side is gone."""
