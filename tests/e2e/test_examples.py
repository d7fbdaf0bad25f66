"""Every example runs, on both launchers: none can rot."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checks import eventually
from tests.e2e.world import CHECKOUT, World

ELSEWHERE = sorted((CHECKOUT / "specs" / "elsewhere").glob("*.yaml"))
"""What needs hardware that not every host has."""
EXAMPLES = sorted((CHECKOUT / "specs" / "examples").rglob("*.y*ml"))
FINE = {"Running", "Completed"}
BLOCKED = ("NotOnThisLauncher", "ParentNotRunning")
IMAGE = Path("/var/lib/reconciler-examples/box")


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[None]:
    """As `make run` makes it."""
    there = IMAGE.exists()
    subprocess.run([sys.executable, CHECKOUT / "tools" / "example_image.py", IMAGE], check=True)
    yield
    if not there:
        shutil.rmtree(IMAGE.parent, ignore_errors=True)


def with_networks(world: World) -> None:
    """As `make run` has it."""
    file = world.own(Path(shutil.copy(CHECKOUT / "specs" / "networks.yaml", world.base)))
    world.flags = (*world.flags, "--networks", str(file))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(any_world: World, example: Path) -> None:
    """As root all of it; without root what the posix launcher cannot give is Blocked, with the reason."""
    with_networks(any_world)
    any_world.own(Path(shutil.copy(example, any_world.specs)))
    answer = any_world.reconciler("apply", any_world.specs)
    rows = any_world.rows()
    assert rows
    for row in rows.values():
        blocked = row["status"] == "Blocked" and row["reason"] in BLOCKED
        assert row["status"] in FINE or (any_world.unprivileged and blocked), row
        assert row["status"] != "Blocked" or row["message"]
    everything_runs = {row["status"] for row in rows.values()} <= FINE
    assert answer.returncode == (0 if everything_runs else 1), answer.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_is_valid(user_world: World, example: Path) -> None:
    """For anybody, before anything runs."""
    copy = user_world.own(Path(shutil.copy(example, user_world.specs)))
    user_world.succeed("check", copy)


@pytest.mark.parametrize("example", ELSEWHERE, ids=lambda path: path.stem)
def test_what_not_every_host_has_is_valid_and_runs_or_is_refused_with_the_reason(
    any_world: World, example: Path
) -> None:
    any_world.succeed("check", any_world.own(Path(shutil.copy(example, any_world.specs))))
    any_world.reconciler("apply", any_world.specs)
    for row in any_world.rows().values():
        print(row["name"], row["status"], row["message"])
        assert row["status"] == "Running" or (row["reason"] in BLOCKED and row["message"]), row


def test_all_examples_run_together_under_one_agent(any_world: World) -> None:
    """As `make run` shows them to a new user, within a second of being ready."""
    with_networks(any_world)
    for example in EXAMPLES:
        any_world.own(Path(shutil.copy(example, any_world.specs)))
    with any_world.agent():
        wanted = FINE | ({"Blocked"} if any_world.unprivileged else set())
        eventually(
            lambda: {row["status"] for row in any_world.rows().values()} <= wanted,
            "all run",
            within=2,
            seen=lambda: {name: row["status"] for name, row in any_world.rows().items()},
        )
        assert any(row["status"] == "Running" for row in any_world.rows().values())
