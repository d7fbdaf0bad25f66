"""When the disk counts as nearly full."""

from __future__ import annotations

import pytest

from reconciler.agent.collecting import is_nearly_full


@pytest.mark.parametrize(
    ("free", "size", "headroom", "expected"),
    [(9, 100, 0.1, True), (10, 100, 0.1, False), (0, 100, 0.1, True), (0, 0, 0.1, False), (0, 100, 0.0, False)],
)
def test_the_disk_is_nearly_full(free: int, size: int, headroom: float, expected: bool) -> None:
    assert is_nearly_full(free, size, headroom) is expected
