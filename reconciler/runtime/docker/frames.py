"""The frames in which an engine sends two streams over one connection: stream, three zeros, length, bytes (its API's
"attach" format). Standard library only."""

from __future__ import annotations

import struct
from collections.abc import Iterator

STDERR = 2
_HEADER = struct.Struct(">B3xL")


class Frames:
    """Takes them apart as they come, however they were cut on the way."""

    def __init__(self) -> None:
        self._header = b""
        self._stream, self._left = 0, 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(stream, bytes): a frame may come in several pieces."""
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                yield self._stream, piece
                continue
            lacking = _HEADER.size - len(self._header)
            self._header, data = self._header + data[:lacking], data[lacking:]
            if len(self._header) == _HEADER.size:
                self._stream, self._left = _HEADER.unpack(self._header)
                self._header = b""
