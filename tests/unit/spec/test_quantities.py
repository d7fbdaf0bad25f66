"""Sizes and durations, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.spec.quantities import (
    BadQuantity,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"), [("1B", 1), ("64Mi", 64 * 2**20), ("500M", 500_000_000), ("1.5Gi", 3 * 2**29), ("1k", 1000)]
)
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("1m30s", 90.0), ("0s", 0.0), ("1.5h", 5400.0), ("1d", 86400.0)]
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [("256", "256Mi"), ("256m", "256Mi"), ("64 mb", "64Mi"), ("1GB", "1G"), ("1gib", "1Gi"), ("1048576", "1Mi")],
)
def test_what_size_was_meant_is_guessed(text: str, hint: str) -> None:
    with pytest.raises(BadQuantity) as caught:
        parse_size(text)
    assert caught.value.hint == f'did you mean "{hint}"?'


@pytest.mark.parametrize(("text", "hint"), [("5", "5s"), ("5 sec", "5s"), ("2 minutes", "2m"), ("3hours", "3h")])
def test_what_duration_was_meant_is_guessed(text: str, hint: str) -> None:
    with pytest.raises(BadQuantity) as caught:
        parse_duration(text)
    assert caught.value.hint == f'did you mean "{hint}"?'


@pytest.mark.parametrize("text", ["", "m", "1x", "1m 30s", "-1s", "s1", "1" * 100])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadQuantity):
        parse_duration(text)
    with pytest.raises(BadQuantity):
        parse_size(text)


@given(st.integers(1, 2**50))
def test_a_size_is_written_so_that_it_reads_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**10))
def test_a_duration_is_written_so_that_it_reads_the_same(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)
