"""Fixtures: `world` as whoever runs the tests, `user_world` as an ordinary user, `any_world` both.

After every test everything is destroyed through the command line, and whatever is left one second
later fails the test; a failed one leaves a bundle behind and says where.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests import engine, processes
from tests.e2e import bundle, unprivileged
from tests.e2e.world import World

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for node in filter(None, (item, item.parent)):  # a world may be a test's own or its module's
            node.stash[FAILED] = True
    return report


@pytest.fixture(scope="package")
def nursery() -> Iterator[processes.Nursery]:
    with processes.Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="package")
def user_command(nursery: processes.Nursery) -> Iterator[Path]:
    """The command as an ordinary user can reach it."""
    base = Path(tempfile.mkdtemp(prefix="rcu", dir="/tmp"))
    base.chmod(0o755)
    yield unprivileged.make_command(base)
    shutil.rmtree(base)


def live(
    node: pytest.Item | pytest.Collector, make: Callable[[], World], fill: Callable[[World], None] = lambda world: None
) -> Iterator[World]:
    """A world from its making to the leak check, which follows even when it could not be filled."""
    world = make()
    try:
        fill(world)
        yield world
    except BaseException:
        node.stash[FAILED] = True
        raise
    finally:
        end(node, world)


def end(node: pytest.Item | pytest.Collector, world: World) -> None:
    where = bundle.write(world, node.name) if node.stash.get(FAILED, False) else None
    complaints = world.tear_down()
    if complaints and where is None:
        where = bundle.write(world, node.name)
    if where is not None:
        print(f"\nfailure bundle: {where}")
        (where / "left").write_text("\n".join(complaints) + "\n")
    world.sweep()
    world.remove()
    if complaints:
        listed = "\n  ".join(complaints)
        pytest.fail(f"after destroy --all:\n  {listed}\n(failure bundle: {where})", pytrace=False)


@pytest.fixture
def world(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    yield from live(request.node, lambda: World(nursery))


@pytest.fixture
def user_world(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    """Without root: as this user, or as nobody when this user is root."""
    yield from live(request.node, lambda: ordinary(request, nursery))


@pytest.fixture(params=["root", "user"])
def any_world(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    """Both launchers: linux as root, posix as an ordinary user."""
    if request.param == "user":
        yield from live(request.node, lambda: ordinary(request, nursery))
    elif os.geteuid() == 0:
        yield from live(request.node, lambda: World(nursery))
    else:
        pytest.skip("needs root: the linux launcher")


def ordinary(request: pytest.FixtureRequest, nursery: processes.Nursery, *, named: bool = True) -> World:
    if os.geteuid() != 0:
        return World(nursery, named=named)
    command = request.getfixturevalue("user_command")
    return World(nursery, user=unprivileged.NOBODY, command=command, named=named)


@pytest.fixture(scope="module")
def server() -> Iterator[engine.Server]:
    with engine.running() as server:
        yield server


@pytest.fixture
def host(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    """A world whose host's network is a namespace of its own, a `HostNetwork`."""
    from tests.e2e.host_network import HostNetwork, live  # which needs what is above

    yield from live(request, nursery, HostNetwork)
