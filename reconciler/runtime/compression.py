"""Compressed streams, decompressed a bounded piece at a time: gzip (RFC 1952) and zstd (RFC 8878).

Invariant: however little is fed in, no more than is asked for comes out at once, and no more memory is used than the
largest window takes. Either may be several members one after the other; zstd's skippable ones hold nothing.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol, cast

if sys.version_info >= (3, 14):
    from compression import zstd

    HOME: str | None = None
else:
    from backports import zstd

    HOME = str(Path(zstd.__file__).parents[2])
"""Where zstd is imported from; None: it is the standard library's."""

_GZIP, _ZSTD, _SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_WINDOW: Mapping[int, int] = {zstd.DecompressionParameter.window_log_max: 27}  # 128 MiB, as zstd without --long


class _Member(Protocol):
    """As in the standard library's bz2 and zstd."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        found = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self.needs_input = not self._inflate.unconsumed_tail and len(found) < max_length
        return found


class Decompressor:
    """Of a stream, by how it begins; what is neither gzip nor zstd stays as it is."""

    def __init__(self, beginning: bytes) -> None:
        self._new: Callable[[], _Member] | None = None
        if beginning.startswith(_GZIP):
            self._new = _Gzip
        elif beginning.startswith(_ZSTD) or (beginning[1:4] == _SKIPPABLE and beginning[0] >> 4 == 5):
            self._new = lambda: zstd.ZstdDecompressor(options=_WINDOW)
        self._member: _Member | None = None
        self._left = b""

    @property
    def hungry(self) -> bool:
        """Nothing more comes out before something goes in."""
        return not self._left and (self._member is None or self._member.eof or self._member.needs_input)

    @property
    def whole(self) -> bool:
        """It may end here."""
        return self._member is None or self._member.eof

    def piece(self, data: bytes, most: int) -> bytes:
        """What comes of further data, at most so many bytes of it, but for a stream that is not compressed; perhaps
        none. Raises ValueError."""
        if self._new is None:
            return data
        data = self._left + data
        if self._member is None or self._member.eof:
            if not data:
                return b""
            self._member = self._new()
        try:
            found = self._member.decompress(data, most)
        except (zlib.error, zstd.ZstdError) as error:
            raise ValueError(str(error)) from error
        self._left = self._member.unused_data if self._member.eof else b""
        return found


def zstd_file(file: BinaryIO) -> BinaryIO:
    """What the file holds, decompressed as it is read. Raises EOFError, and ZstdError on the way."""
    return cast(BinaryIO, zstd.ZstdFile(file, options=_WINDOW))
