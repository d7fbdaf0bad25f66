"""Worlds of a test's own, a loop for tests that are coroutines, and the proof that nothing of either is left."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import leaks, processes
from tests.integration.runtime.reaping import Reaper
from tests.integration.runtime.world import World, wait_for

TEST_SECONDS = 60.0 * processes.PATIENCE


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests that are coroutines get an event loop each."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_SECONDS))
    return True


@pytest.fixture(scope="module", autouse=True)
def reaper() -> Iterator[None]:
    """For as long as a module needs it: other tests wait for children of theirs that lead sessions too."""
    with Reaper():
        yield


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that everybody may enter; containers with another user work below it."""
    path = Path(tempfile.mkdtemp(prefix="runtime-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make_world(base: Path) -> Iterator[Callable[[str | None], World]]:
    worlds: list[World] = []

    def scope() -> leaks.Scope:
        return leaks.Scope((base,), tuple(each.settings.owner for each in worlds), (base / "run",), World.CGROUPS)

    before = leaks.take(scope())
    descriptors = len(processes.names("/proc/self/fd"))

    def make(launcher: str | None) -> World:
        worlds.append(World(base, launcher))
        return worlds[-1]

    yield make
    for world in worlds:
        asyncio.run(world.clear())
    left = leaks.left(before, scope)
    if left:
        leaks.sweep(scope(), before)
    assert not left, "\n".join(left)
    wait_for("no descriptor is left", lambda: len(processes.names("/proc/self/fd")) <= descriptors, 1)


@pytest.fixture
def world(make_world: Callable[[str | None], World]) -> World:
    """With the linux launcher; tests that use it are marked root and cgroup."""
    return make_world("linux")


@pytest.fixture
def posix(make_world: Callable[[str | None], World]) -> World:
    return make_world("posix")


@pytest.fixture(params=[pytest.param("linux", marks=[pytest.mark.root, pytest.mark.cgroup]), "posix"])
def either(request: pytest.FixtureRequest, make_world: Callable[[str | None], World]) -> World:
    """Each launcher in turn."""
    launcher: str = request.param
    return make_world(launcher)
