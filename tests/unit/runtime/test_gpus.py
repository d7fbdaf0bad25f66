"""Which GPUs a container can be given: none twice, and what is nested of those around it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from reconciler.errors import Terminal
from reconciler.runtime.isolators.gpu_nvidia import choose


@pytest.mark.parametrize(
    ("name", "given", "free"),
    [
        ("a", {}, [0, 1, 2]),
        ("a", {"b": [1]}, [0, 2]),
        ("a", {"ab": [1], "b": [0, 2]}, []),
        ("a.x", {"a": [0, 1], "b": [2]}, [0, 1]),
        ("a.x", {"a": [0, 1], "a.y": [0]}, [1]),
        ("a.x", {"a": [0, 1], "a.y": [0], "a.y.z": [0]}, [1]),
        ("a.x.z", {"a": [0, 1], "a.x": [1]}, [1]),
        ("a.x.z", {"a": [0, 1], "a.y": [0]}, [1]),
        ("a.x", {"a": [0, 7]}, [0]),  # one that is there no more
    ],
)
def test_what_is_free_for_a_container(name: str, given: Mapping[str, list[int]], free: list[int]) -> None:
    assert choose(name, [0, 1, 2], given) == free


def test_nested_ones_get_nothing_that_is_not_around_them() -> None:
    with pytest.raises(Terminal, match="no GPUs to give"):
        choose("a.x", [0, 1], {"b": [0]})
