"""Compressed streams come out whole, and never more at once than is asked for."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest

from reconciler.runtime.compression import Decompressor, zstd

SKIPPABLE = b"\x5f\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"table"
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "zstd with a table": lambda data: SKIPPABLE + zstd.compress(data) + SKIPPABLE,
}
MOST = 1 << 16


def decompressed(data: bytes, step: int) -> tuple[bytes, bool]:
    """(what comes out, whether the stream may end there)."""
    found, fed = bytearray(), 0
    decompressor = Decompressor(data[:step])
    while fed < len(data) or not decompressor.hungry:
        raw = b""
        if decompressor.hungry:
            raw, fed = data[fed : fed + step], fed + step
        piece = decompressor.piece(raw, MOST)
        assert len(piece) <= MOST
        found += piece
    assert decompressor.piece(b"", MOST) == b""
    return bytes(found), decompressor.whole


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("step", [7, 1 << 14])
def test_members_one_after_the_other_are_one_stream(packed: str, step: int) -> None:
    """Zeros pack a thousandfold and more."""
    pack, parts = PACKED[packed], (b"first", bytes(1 << 22), b"last" * 1000)
    data = b"".join(map(pack, parts))
    assert decompressed(data, step) == (b"".join(parts), True)
    assert decompressed(data[:-20], step)[1] is False or packed == "zstd with a table"


@pytest.mark.parametrize("packed", PACKED)
def test_what_comes_after_and_is_none_is_an_error(packed: str) -> None:
    with pytest.raises(ValueError):
        decompressed(PACKED[packed](b"x") + b"garbage, and long enough to be seen", 1 << 14)


def test_a_window_of_more_than_is_allowed_is_an_error() -> None:
    options = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.enable_long_distance_matching: 1}
    compressor = zstd.ZstdCompressor(options=options)
    data = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(300)) + compressor.flush()
    with pytest.raises(ValueError, match="memory"):
        decompressed(data, 1 << 14)


def test_what_is_not_compressed_stays_as_it_is() -> None:
    decompressor = Decompressor(b"etc/passwd")
    assert decompressor.piece(b"etc/passwd", 1) == b"etc/passwd" and decompressor.hungry and decompressor.whole
