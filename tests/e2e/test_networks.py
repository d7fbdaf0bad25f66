"""Networks of containers with a network namespace of their own, as the kernel and their processes see them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests import processes
from tests.e2e.world import World, document, sleeper

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

PRIVATE = {"network": "private"}
BRIDGE = [{"name": "bridge"}]
WITHIN = 20.0 * processes.PATIENCE


def links(world: World) -> list[str]:
    """Ours, on the host."""
    owner = world.owner()
    assert owner is not None
    return [name for name in processes.names("/sys/class/net") if name.startswith(f"rc{owner[:6]}")]


def address(world: World, name: str, family: str = "inet") -> str:
    answer = world.succeed("exec", name, "--", "ip", "-j", "address", "show", "dev", "eth0")
    return next(each["local"] for each in json.loads(answer)[0]["addr_info"] if each["family"] == family)


def gone(world: World) -> None:
    deadline = time.monotonic() + WITHIN
    while links(world):
        assert time.monotonic() < deadline, f"left: {links(world)}"
        time.sleep(0.02)


def test_two_pods_talk_whatever_becomes_of_the_agent_and_leave_nothing(world: World) -> None:
    served = document(
        "front", command=["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"], namespaces=PRIVATE, networks=BRIDGE
    )
    world.write("front.yaml", served)
    world.write("back.yaml", sleeper("back", namespaces=PRIVATE, networks=BRIDGE))
    world.write("alone.yaml", sleeper("alone", namespaces=PRIVATE))
    with world.agent() as agent:
        first = address(world, "front")
        for family, host in (("inet", first), ("inet6", f"[{address(world, 'front', 'inet6')}]")):
            asked = f"import urllib.request as u; print(u.urlopen('http://{host}/hostname', timeout=5).status)"
            deadline = time.monotonic() + WITHIN
            while "200" not in (answer := world.reconciler("exec", "back", "--", "python3", "-c", asked)).stdout:
                assert time.monotonic() < deadline, f"no answer over {family}: {answer.stderr}"
        assert "eth0" not in world.succeed("exec", "alone", "--", "ip", "address")
        agent.kill()
    with world.agent():
        assert address(world, "front") == first
        world.write("third.yaml", sleeper("third", namespaces=PRIVATE, networks=[{"name": "bridge", "ip": first}]))
        world.reconciler("wait", "third", "--for", "running", "--timeout", "2s")
        assert f"{first} is that of front" in world.rows()["third"]["message"]
        world.delete("third.yaml")
        for name in ("front", "back"):
            world.delete(f"{name}.yaml")
        world.succeed("wait", "front", "back", "third", "--for", "gone", "--timeout", "20s")
        gone(world)
        assert not (Path(world.root) / "networks").exists()


def test_a_network_that_is_not_there_is_refused_by_plan(world: World) -> None:
    world.write("shop.yaml", sleeper("shop", namespaces=PRIVATE, networks=[{"name": "nowhere"}]))
    answer = world.reconciler("plan", world.specs)
    assert "there is no network nowhere; there are: bridge" in answer.stdout + answer.stderr
