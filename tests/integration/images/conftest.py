"""The runtime's worlds."""

from __future__ import annotations

from tests.integration.runtime.conftest import base, make_world, pytest_pyfunc_call, reaper, world

__all__ = ["base", "make_world", "pytest_pyfunc_call", "reaper", "world"]
