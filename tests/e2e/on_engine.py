"""What scenarios on a Docker Engine have in common: a spec for it, what the engine says, the executors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import engine, processes
from tests.e2e.checks import Instance, eventually
from tests.e2e.conftest import live
from tests.e2e.world import World, document

QUICK = {"initial": "100ms", "max": "300ms"}


def boxed(name: str, *command: str, **spec: object) -> str:
    image: dict[str, object] = {"reference": engine.IMAGE, "pullPolicy": "Never"}
    argv = list(command) or ["sleep", "infinity"]
    whole = {
        "type": "docker",
        "image": image,
        "command": argv,
        "backoff": QUICK,
        "killPolicy": {"gracePeriod": "1s"},
    } | spec
    return document(name, **{field: value for field, value in whole.items() if value is not None})


def live_on(request: pytest.FixtureRequest, nursery: processes.Nursery, server: engine.Server) -> Iterator[World]:
    """A world whose engine that is, and nothing of which is left there."""
    for made in live(request.node, lambda: World(nursery, variables={"DOCKER_HOST": server.url})):
        yield made
        assert made.reconciler("destroy", "--all").returncode == 0
        assert server.named() == {}


def crew_of(program: Path, python: str, tasks: Mapping[str, str], **spec: object) -> str:
    """A custom executor that is fetched into the sandbox."""
    argv = [python, f"/mnt/mesos/sandbox/{program.name}"]
    executor = {"command": argv, "tasks": {name: {"shell": line} for name, line in tasks.items()}}
    return boxed("crew", command=None, executor=executor, uris=[{"uri": program.as_uri()}], **spec)


def inspected(server: engine.Server, world: World, name: str) -> dict[str, Any]:
    owner = (world.owner() or "")[:12]
    found: dict[str, Any] = server.api.inspect_container(f"reconciler-{owner}-{name}")
    return found


def executors(world: World, name: str) -> list[processes.Process]:
    return processes.running([f"docker-executor {name}"], world.nursery.processes())


def executor(world: World, name: str, other_than: Instance | None = None) -> Instance:
    """The only one there is, at work: it listens."""
    found: list[processes.Process] = []

    def there() -> bool:
        found[:] = [each for each in executors(world, name) if other_than is None or each.pid != other_than.pid]
        return len(found) == 1 and list((world.runtime / "docker").glob("*.sock")) != []

    eventually(there, f"{name} has an executor", seen=lambda: executors(world, name))
    return Instance(name, found[0].pid, found[0].start)


def private_bytes(pid: int) -> int:
    """What it has for itself alone: shared with nobody, not even the keeper that forked it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024
