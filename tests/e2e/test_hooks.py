"""Hooks: the examples of the documentation, installed as a user would, and one that hangs."""

from __future__ import annotations

import shutil
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.e2e.checks import (
    eventually,
    gone,
    instance,
    message_contains,
    not_restarted,
    plan_is_empty,
    restarted,
    until,
)
from tests.e2e.conftest import live
from tests.e2e.world import CHECKOUT, World, sleeper

EXAMPLES = CHECKOUT / "examples" / "hooks"
PRINTS = 'echo "$TEAM $REGISTERED_AT $MINE" > hooked; exec sleep infinity'


def install(where: Path) -> None:
    """The example's module with its entry points, as `pip install` would put them."""
    shutil.copy(EXAMPLES / "quota" / "reconciler_quota.py", where)
    declared = tomllib.loads((EXAMPLES / "quota" / "pyproject.toml").read_text())["project"]
    about = where / "reconciler_quota-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {declared['name']}\nVersion: {declared['version']}\n"
    )
    ((group, points),) = declared["entry-points"].items()
    lines = [f"{name} = {value}" for name, value in points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))


@pytest.fixture
def world(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    for made in live(request.node, lambda: World(nursery)):
        made.variables |= {"REGISTER": str(made.aside / "register"), "PYTHONPATH": str(made.aside)}
        install(made.aside)
        hang = made.aside / "hang"
        hang.write_text("#!/bin/sh\nread asked; case $asked in *'\"hangs\"'*) sleep 61 & sleep 62;; esac\n")
        hang.chmod(hang.stat().st_mode | stat.S_IXUSR)
        made.flags = ("--hooks", f"{EXAMPLES}/register,quota,{hang}", "--hook-timeout", "2s")
        yield made


def entered(world: World) -> dict[str, str]:
    register = world.aside / "register"
    return {path.name: path.read_text() for path in register.iterdir()} if register.is_dir() else {}


def test_hooks_add_variables_veto_and_hear_of_every_container(world: World) -> None:
    """Nested ones too. A veto leaves what runs; one that hangs holds up its own container, and is gone itself."""
    pod = [{"name": "web", "shell": PRINTS, "env": {"TEAM": "its-own"}}]
    world.write("shop.yaml", sleeper("shop", labels={"team": "blue"}, containers=pod))
    world.write("hangs.yaml", sleeper("hangs", labels={"team": "blue"}))
    world.write("free.yaml", sleeper("free"))
    with world.agent():
        shop, web = instance(world, "shop"), instance(world, "shop.web")
        said = world.sandbox("shop.web") / "hooked"
        eventually(said.exists, "the payload has written its variables")
        assert said.read_text().split() == ["its-own", str(world.aside / "register" / "shop.web")]
        assert entered(world)["shop.web"].split()[0] == "mesos"
        assert message_contains(world, "free", "nobody would pay for it")["reason"] == "HookVetoed"
        row = message_contains(world, "hangs", "had not answered after 2 s and was killed")
        assert row["reason"] == "HookFailed" and "preLaunch" in row["message"] and row["pid"] is None
        assert "had not answered" in world.succeed("why", "hangs")
        world.delete("hangs.yaml"), world.delete("free.yaml")
        gone(world, "hangs"), gone(world, "free")
        eventually(lambda: not sleeping(world), "nothing of the hook is left", seen=lambda: sleeping(world))
        world.write("shop.yaml", sleeper("shop", "1000", containers=pod))  # without the label
        until(world, "shop", lambda row: row["reason"] == "HookVetoed", "is vetoed in its new form")
        not_restarted(world, shop), not_restarted(world, web)
        world.write("shop.yaml", sleeper("shop", labels={"team": "red"}, containers=pod))
        until(world, "shop", lambda row: row["reason"] is None, "is as asked for")
        plan_is_empty(world)  # the variable would be another by now
        not_restarted(world, shop)
        world.write("shop.yaml", sleeper("shop", "1001", labels={"team": "red"}, containers=pod))
        restarted(world, shop)
        world.delete("shop.yaml")
        gone(world, "shop")
    assert entered(world) == {}


def sleeping(world: World) -> list[str]:
    found = [" ".join(processes.cmdline(each.pid)) for each in world.nursery.processes()]
    return [each for each in found if each in ("sleep 61", "sleep 62")]
