"""The agent in a container of its own on the engine it converges: what becomes of that container disturbs nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import agent_image, engine, processes
from tests.e2e.checks import eventually, exited, gone, instance, message_contains, not_restarted, payload, plan_is_empty
from tests.e2e.conftest import live
from tests.e2e.on_engine import boxed, crew_of, inspected
from tests.e2e.world import CHECKOUT, World, sleeper

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.skipif(bool(agent_image.missing()), reason=agent_image.missing()),
]
FLAGS = ("--docker-agent-image", agent_image.IMAGE)


@pytest.fixture
def world(request: pytest.FixtureRequest, nursery: processes.Nursery, server: engine.Server) -> Iterator[World]:
    agent_image.load(server)
    for made in live(request.node, lambda: World(nursery, variables={"DOCKER_HOST": server.url}, flags=FLAGS)):
        yield made
        assert made.reconciler("destroy", "--all").returncode == 0
        for name in ("agent", "newer"):
            if name in server.named():
                server.api.remove_container(name, force=True)
        assert list(server.named()) == []


def start(world: World, server: engine.Server, name: str) -> None:
    """As one would by hand: `docker run -d --pid host --cap-add SYS_ADMIN --cap-add SYS_PTRACE -v … IMAGE …`."""
    binds = [f"{path}:{path}" for path in (world.base, server.base / "engine.sock")]
    host = {"PidMode": "host", "NetworkMode": "none", "Binds": binds, "CapAdd": ["SYS_ADMIN", "SYS_PTRACE"]}
    body = {
        "Image": agent_image.IMAGE,
        "Cmd": ["reconciler", "run", world.specs, "--root", world.root, "--runtime-dir", world.runtime, *FLAGS],
        "Env": [f"DOCKER_HOST={server.url}"],
        "HostConfig": host,
    }
    body["Cmd"] = [str(word) for word in body["Cmd"]]
    server.api.start(server.api.create_container_from_config(body, name)["Id"])


def test_an_agent_in_a_container_is_killed_and_upgraded_and_nothing_notices(
    world: World, server: engine.Server
) -> None:
    """Executors are containers of their own: an exit between two agents is known, one that is killed is replaced. A
    custom one goes on with its tasks."""
    until_told = "while [ ! -e /mnt/mesos/sandbox/go ]; do sleep 0.1; done; exit 7"
    world.write("web.yaml", boxed("web"))
    world.write("job.yaml", boxed("job", "sh", "-c", until_told, restartPolicy="Never"))
    world.write("native.yaml", sleeper("native"))
    program = world.base / "several.py"
    program.write_bytes((CHECKOUT / "examples/executors/several.py").read_bytes())
    image = {"image": {"reference": agent_image.IMAGE, "pullPolicy": "Never"}}
    tasks = {"web": "exec sleep 7021"}
    world.write("crew.yaml", crew_of(program, "python3", tasks, **image))
    start(world, server, "agent")
    web = instance(world, "web", within=60)
    instance(world, "job", within=30)
    crew = instance(world, "crew", within=30)
    task = payload(world, "crew", ["sleep", "7021"])
    message_contains(world, "native", "no containerizer takes a container of type mesos")
    eventually(lambda: executors(world, server).keys() == {"web", "job", "crew"}, "each has an executor", within=30)
    first, job = executors(world, server)["web"], inspected(server, world, "job")["Id"]

    server.api.kill("agent")
    assert web.alive and executors(world, server)["web"] == first
    (world.sandbox("job") / "go").touch()
    eventually(lambda: executors(world, server).keys() == {"web", "crew"}, "the job's executor is done")
    server.api.remove_container(job)
    server.api.remove_container(first, force=True)

    start(world, server, "newer")
    exited(world, "job", 7)
    eventually(lambda: executors(world, server).get("web", first) != first, "another executor", within=30)
    not_restarted(world, web)
    world.write("crew.yaml", crew_of(program, "python3", tasks | {"beat": "exec sleep 7022"}, **image))
    payload(world, "crew", ["sleep", "7022"])
    not_restarted(world, crew)
    assert processes.alive(task.pid, task.start)
    assert "with --docker-agent-image only docker" in world.reconciler("plan", world.specs).stderr
    world.delete("native.yaml")
    plan_is_empty(world)
    for name in ("web", "crew"):
        world.delete(f"{name}.yaml")
    gone(world, "web", web)
    gone(world, "crew", crew)
    eventually(lambda: executors(world, server) == {}, "no executor is left")


def executors(world: World, server: engine.Server) -> dict[str, str]:
    """Whose → the id of its executor's container, of those that run."""
    labels = [f"reconciler.owner={world.owner()}", "reconciler.executor"]
    return {
        each["Labels"]["reconciler.executor"]: each["Id"] for each in server.api.containers(filters={"label": labels})
    }
