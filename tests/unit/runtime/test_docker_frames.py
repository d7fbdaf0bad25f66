"""Two streams in one connection, as an engine sends them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.runtime.docker.frames import Frames

FRAMES = st.lists(st.tuples(st.sampled_from((0, 1, 2)), st.binary(max_size=40)), max_size=8)


@given(FRAMES, st.lists(st.integers(1, 20)))
def test_each_stream_is_whole_however_the_connection_was_cut(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    wire = b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in sent)
    pieces = []
    for size in cuts:
        pieces.append(wire[:size])
        wire = wire[size:]
    frames = Frames()
    heard = [found for piece in (*pieces, wire) for found in frames.feed(piece)]
    for stream in (0, 1, 2):
        assert b"".join(data for at, data in heard if at == stream) == b"".join(d for at, d in sent if at == stream)
