"""Isolators of other packages: the example of the documentation, installed by pip, and ones that are broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.e2e.checks import eventually, instance, not_restarted, payload, plan_is_empty, state
from tests.e2e.conftest import live
from tests.e2e.world import CHECKOUT, World, sleeper

EXAMPLE = CHECKOUT / "examples" / "isolators" / "files"
BROKEN = """
from reconciler.runtime.isolators.isolator import PassiveIsolator

class Raising(PassiveIsolator):
    name = "broken/raises"
    def __init__(self, host):
        pass
    def prepare(self, config, context):
        return None if config.name == "fine" else {}["nothing"]

def absent(host):
    raise RuntimeError("no such hardware")
"""


def install(where: Path, base: Path) -> None:
    """The example by pip, without a network; beside it a package of which nothing works."""
    source = Path(shutil.copytree(EXAMPLE, base / "source"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", where, source], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    (where / "broken_isolators.py").write_text(BROKEN)
    about = where / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    points = (
        "[reconciler.isolators]\nbroken/raises = broken_isolators:Raising\nbroken/absent = broken_isolators:absent\n"
    )
    (about / "entry_points.txt").write_text(points)


@pytest.fixture
def world(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    for made in live(request.node, lambda: World(nursery)):
        packages = made.base / "packages"
        install(packages, made.base)
        made.variables |= {"PYTHONPATH": str(packages)}
        yield made


def files(most: int) -> dict[str, object]:
    return {"isolators": {"example/files": {"most": most, "interval": "1s"}}, "restartPolicy": "Never"}


def test_an_installed_isolator_acts_when_it_is_named(world: World) -> None:
    """Seen from inside, in its verdict, and by an agent that did not launch the container."""
    world.write("web.yaml", sleeper("web", "820001", **files(3)))
    world.apply(code=1)
    row = world.rows()["web"]
    assert row["status"] == "Blocked" and "isolators.example/files: no such isolator is enabled" in row["message"], row
    told = world.succeed("doctor", code=world.reconciler("doctor").returncode)
    assert "example/files: works" in told and "broken/absent: not here" in told and "no such hardware" in told
    world.flags = ("--isolation", "default,example/files")
    world.apply()
    assert processes.environ(payload(world, "web", ["sleep", "820001"]).pid)["FILES_MOST"] == "3"
    web = instance(world, "web")
    with world.agent():
        not_restarted(world, web)
        plan_is_empty(world)
        for number in range(4):
            (world.sandbox("web") / f"file{number}").touch()
        row = state(world, "web", "Failed")
        assert row["exit"]["reason"] == "LimitExceeded" and "4 files in its sandbox, 3 are allowed" in row["message"]
    eventually(lambda: not web.alive, "its process is gone")
    world.write("web.yaml", sleeper("web", "820001", isolators={"example/files": {"mots": 3}}))
    world.apply(code=1)
    assert "example/files.mots: there is no such option; there are: interval, most" in world.rows()["web"]["message"]


def test_one_that_is_broken_is_named_and_harms_its_own_containers_only(world: World) -> None:
    world.write("web.yaml", sleeper("web"))
    for name, why in (("broken/absent", "RuntimeError: no such hardware"), ("broken/none", "there are: default, ")):
        answer = world.reconciler("apply", world.specs, "--isolation", f"default,{name}")
        assert answer.returncode == 1 and why in answer.stderr and "Traceback" not in answer.stderr, answer.stderr
    world.flags = ("--isolation", "default,broken/raises")
    world.write("fine.yaml", sleeper("fine"))
    with world.agent():
        state(world, "fine", "Running")
        message = "the isolator broken/raises failed in prepare: KeyError: 'nothing'"
        eventually(lambda: message in world.rows()["web"]["message"], message, seen=lambda: world.rows()["web"])
