"""What a pod has to itself: its names and those of its neighbours, as its own processes see them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.e2e.world import World, document, sleeper

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

PRIVATE = {"network": "private"}
BRIDGE = [{"name": "bridge"}]
WITHIN = 20.0 * processes.PATIENCE
FILES = ("hosts", "hostname", "resolv.conf")


def tree(world: World) -> Path:
    """A root of busybox, with a resolv.conf that leads nowhere, as in many images."""
    made = world.base / "tree"
    (made / "bin").mkdir(parents=True)
    (made / "etc").mkdir()
    shutil.copy("/bin/busybox", made / "bin" / "busybox")
    for name in ("cat", "sleep", "sh"):
        (made / "bin" / name).symlink_to("busybox")
    (made / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    return made


def read(world: World, name: str, file: str) -> str:
    return world.succeed("exec", name, "--", "cat", f"/etc/{file}")


def eventually(true: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + WITHIN
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def test_names_of_a_pod_and_of_its_neighbours_whatever_becomes_of_the_agent(world: World) -> None:
    own, root = {**PRIVATE, "user": "private"}, str(tree(world))
    web = {"name": "web", "command": ["sleep", "infinity"]}
    secret = world.base / "mine"
    secret.write_text("mine\n")
    mine = [{"type": "hostPath", "source": str(secret), "target": "/etc/hostname"}]
    world.write(
        "shop.yaml",
        sleeper("shop", hostname="front", namespaces=own, networks=BRIDGE, rootfs=root, containers=[web], volumes=mine),
    )
    world.write("back.yaml", sleeper("back", namespaces=PRIVATE, networks=BRIDGE))
    world.write("plain.yaml", sleeper("plain", rootfs=root, security={"readOnlyRootfs": True}))
    before = Path("/etc/hosts").read_text()
    with world.agent() as agent:
        world.succeed("wait", "shop.web", "--for", "running", "--timeout", "20s")
        asked = (
            "import json, socket; print(json.dumps([socket.gethostbyname(n) for n in ('shop', 'front', 'shop.web')]))"
        )
        eventually(lambda: "shop.web" in read(world, "back", "hosts"), lambda: read(world, "back", "hosts"))
        (address,) = set(json.loads(world.succeed("exec", "back", "--", "python3", "-c", asked)))
        answer = world.succeed("exec", "shop", "--", "/bin/busybox", "ip", "address", "show", "dev", "eth0")
        assert f"inet {address}/" in answer
        eventually(lambda: "\tback\n" in read(world, "shop", "hosts"), lambda: read(world, "shop", "hosts"))
        assert read(world, "shop.web", "hosts") == read(world, "shop", "hosts")
        assert f"{address}\tfront\n" in read(world, "shop", "hosts")
        assert [read(world, name, "hostname") for name in ("shop", "shop.web", "back")] == [
            "mine\n",
            "front\n",
            "back\n",
        ]
        assert "127.0.0.53" not in read(world, "shop", "resolv.conf")
        assert (link := Path(root, "etc", "resolv.conf")).is_symlink() and not link.exists()
        refused = world.reconciler("exec", "back", "--", "sh", "-c", "echo 192.0.2.1 evil >> /etc/hosts")
        assert refused.returncode and "evil" not in read(world, "back", "hosts")
        for file in FILES:
            assert read(world, "plain", file) == Path("/etc", file).read_text()
        world.reconciler("exec", "back", "--", "python3", "-c", "import socket; socket.create_connection(('shop', 9))")
        agent.kill()
        told = {row["name"]: row for row in json.loads(world.succeed("stats", "-o", "json"))}
        eth0 = told["back"]["interfaces"]["eth0"]
        assert min(eth0["sentPackets"], eth0["receivedPackets"], told["back"]["sentBytes"]) > 0
        assert (told["back"]["tcpListenDrops"], told["back"]["tcpEstablished"]) == (0, 0)
        assert all(told[name]["interfaces"] is None for name in ("shop.web", "plain"))
    world.delete("back.yaml")
    with world.agent():
        eventually(lambda: "\tback\n" not in read(world, "shop", "hosts"), lambda: read(world, "shop", "hosts"))
    assert Path("/etc/hosts").read_text() == before


SERVER = """
import socket
with socket.create_server(("0.0.0.0", 80)) as listening:
    while True:
        made, _ = listening.accept()
        with made:
            while made.recv(1 << 16):
                pass
"""
CLIENT = """
import json, socket, sys, time
size, begun = int(sys.argv[2]), time.monotonic()
with socket.create_connection((sys.argv[1], 80), timeout=20) as made:
    made.sendall(bytes(size))
    made.shutdown(socket.SHUT_WR)
    made.recv(1)
print(size / (time.monotonic() - begun))
"""


def test_what_a_pod_receives_and_sends_is_limited_and_that_changes_while_it_runs(world: World) -> None:
    def limited(**rates: str) -> dict[str, object]:
        return {"limits": {"network": rates}} if rates else {}

    def speed(name: str, to: str, size: int) -> float:
        return float(world.succeed("exec", name, "--", "python3", "-c", CLIENT, to, str(size)))

    def write(name: str, **rates: str) -> None:
        command = ["python3", "-c", SERVER]
        world.write(
            f"{name}.yaml",
            document(name, command=command, namespaces=PRIVATE, networks=BRIDGE, resources=limited(**rates)),
        )

    write("one", ingress="1Mi")
    write("two")
    with world.agent():
        eventually(
            lambda: world.reconciler("exec", "two", "--", "python3", "-c", CLIENT, "one", "1").returncode == 0, str
        )
        eventually(
            lambda: world.reconciler("exec", "one", "--", "python3", "-c", CLIENT, "two", "1").returncode == 0, str
        )
        before = world.rows()["one"]
        assert 0.2 * 2**20 < speed("two", "one", 1 << 20) < 1.5 * 2**20
        assert speed("one", "two", 16 << 20) > 4 * 2**20  # what it sends is not limited
        write("one", egress="1Mi")
        eventually(lambda: speed("one", "two", 1 << 20) < 1.5 * 2**20, str)
        assert speed("two", "one", 16 << 20) > 4 * 2**20
        write("one")
        eventually(lambda: speed("one", "two", 4 << 20) > 4 * 2**20, str)
        assert (world.rows()["one"]["pid"], world.rows()["one"]["restarts"]) == (before["pid"], 0)
