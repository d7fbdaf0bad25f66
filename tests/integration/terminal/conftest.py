"""The runtime's worlds, and operators who sit at a terminal of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.rootfs.conftest import applets, tree
from tests.integration.runtime.conftest import base, either, make_world, posix, pytest_pyfunc_call, reaper, world
from tests.integration.runtime.world import World
from tests.integration.terminal.operator import Operator

__all__ = ["applets", "base", "either", "make_world", "posix", "pytest_pyfunc_call", "reaper", "tree", "world"]

Sit = Callable[..., Operator]


@pytest.fixture
def sit(base: Path, make_world: Callable[[str | None], World]) -> Iterator[Sit]:
    """`sit(world, "attach", NAME)`: the command, at a terminal. Everyone is gone before the world is cleared."""
    operators: list[Operator] = []

    def start(world: World, *argv: str, **options: int) -> Operator:
        operators.append(Operator(world, *argv, **options))
        return operators[-1]

    yield start
    for operator in operators:
        operator.close()
