"""The runtime's worlds, root file systems, and operators at a terminal."""

from __future__ import annotations

from tests.integration.rootfs.conftest import applets, tree
from tests.integration.runtime.conftest import base, make_world, pytest_pyfunc_call, reaper, world
from tests.integration.terminal.conftest import sit

__all__ = ["applets", "base", "make_world", "pytest_pyfunc_call", "reaper", "sit", "tree", "world"]
