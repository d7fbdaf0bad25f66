"""Worlds of a test's own, a loop for tests that are coroutines, and the proof that nothing of either is left."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.runtime.isolators import cgroups_devices
from reconciler.runtime.launcher import connection, handover, launcher
from tests import leaks, processes
from tests.integration.runtime.reaping import Reaper
from tests.integration.runtime.world import World, wait_for
from tools import compile_init

Package = Callable[..., Path]
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
    descriptors = _descriptors()

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
    wait_for("no descriptor is left", lambda: len(_descriptors()) <= len(descriptors), 1, seen=_descriptors)


def _descriptors() -> dict[str, str]:
    """Those open, and what they are. The device program is one: it is loaded once for as long as a process lives."""
    with contextlib.suppress(OSError):
        cgroups_devices.default_program()
    found = {}
    for name in processes.names("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = str(Path(f"/proc/self/fd/{name}").readlink())
    return found


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


# ---- keepers of other code


@pytest.fixture
def package(base: Path) -> Package:
    """`package(**{file: (old, new)})`: a copy of what a keeper loads, changed."""

    def make(**changes: tuple[str, str]) -> Path:
        copy = base / f"package{len(changes)}"
        source = connection.PACKAGE / "reconciler"
        for path in ("__init__.py", "errors.py", "states.py", "runtime/__init__.py", "runtime/docker/__init__.py"):
            (copy / "reconciler" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, copy / "reconciler" / path)
        for room in ("kernel", "launcher", "docker/executor"):
            shutil.copytree(source / "runtime" / room, copy / "reconciler" / "runtime" / room)
        for name, (old, new) in changes.items():
            file = copy / "reconciler" / "runtime" / "launcher" / f"{name}.py"
            assert old in file.read_text()
            file.write_text(file.read_text().replace(old, new, 1))
        return copy

    return make


@pytest.fixture
def as_agent_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """From here on agents are of that package; returns the code they want of their keeper."""

    def become(package: Path) -> str:
        code = handover.code(str(package / "reconciler" / "runtime"))
        monkeypatch.setattr(connection, "PACKAGE", package)
        monkeypatch.setattr(launcher.handover, "code", lambda: code)
        return code

    return become


@pytest.fixture(params=["static", "python"])
def init(request: pytest.FixtureRequest, package: Package, as_agent_of: Callable[[Path], str]) -> str:
    """Each init in turn: agents and keepers are of a package with the static one compiled, or without."""
    copy = package()
    binary = copy / "reconciler" / "runtime" / "launcher" / "init" / "static-init"
    binary.unlink(missing_ok=True)
    if request.param == "static":
        try:
            compile_init.compile_init(binary)
        except OSError as error:
            pytest.skip(f"the static init cannot be compiled here: {error}")
    as_agent_of(copy)
    kind: str = request.param
    return kind
