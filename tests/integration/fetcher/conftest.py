"""The runtime's worlds, and a server to fetch from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.runtime.conftest import base, either, make_world, posix, pytest_pyfunc_call, reaper, world
from tests.server import Server, serving

__all__ = ["base", "either", "make_world", "posix", "pytest_pyfunc_call", "reaper", "world"]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as started:
        yield started
