"""Pods on the bridge come, go and are killed at any point: not one link, address, route, rule or namespace is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import engine, processes
from tests.e2e.checks import eventually, until
from tests.e2e.host_network import HostNetwork
from tests.e2e.world import document, sleeper

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

PODS = int(os.environ.get("FAULT_PODS", "15"))
CONNECTED = {"namespaces": {"network": "private"}, "networks": [{"name": "bridge"}]}
WEB = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]
SOON = {"delay": "0s", "interval": "1s", "role": "readiness"}
LOOKED = {"network": {"interval": "1s"}}


def recorded(host: HostNetwork) -> list[str]:
    """The containers that have, or are about to have, networks."""
    return [each.stem for each in (host.root / "networks").glob("*.json")]


def attached(host: HostNetwork, name: str) -> dict[str, Any]:
    (line,) = json.loads((host.root / "networks" / f"{name}.json").read_text())
    attachment: dict[str, Any] = line["attachment"]
    return attachment


def address(host: HostNetwork, name: str) -> str:
    return str(attached(host, name)["addresses"][0].partition("/")[0])


def killed_once(host: HostNetwork, number: int) -> None:
    """The agent, as soon as that many have networks."""
    agent = host.start()
    eventually(lambda: len(recorded(host)) >= number, f"{number} are connected", within=60)
    agent.kill()


@contextlib.contextmanager
def talking(host: HostNetwork) -> Iterator[Callable[[], list[bytes]]]:
    """Two containers of an engine on the same host, one of which asks the other, over and over: what became of it."""
    with engine.running(host.within, "172.29.0.1/24") as server:

        def run(name: str, *command: str) -> str:
            body = {"Image": engine.IMAGE, "Entrypoint": list(command), "HostConfig": {"NetworkMode": "bridge"}}
            made = server.api.create_container_from_config(body, name)["Id"]
            server.api.start(made)
            return str(server.api.inspect_container(made)["NetworkSettings"]["IPAddress"])

        def answers() -> list[bytes]:
            return bytes(server.api.logs("asks")).split()

        get = "printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n'"
        ask = f"{get} | busybox nc -w 5 {run('serves', *WEB)} 80 | busybox grep -q root"
        run("asks", "sh", "-c", f"until {ask}; do :; done; while {ask}; do echo ok; sleep 0.05; done; echo failed")
        eventually(lambda: len(answers()) > 3, "it is answered", seen=answers)
        eventually(lambda: "tentative" not in "".join(host.network()), "its addresses are settled")
        yield answers
        seen = len(answers())
        eventually(lambda: len(answers()) > seen, "it is still answered", seen=answers)
        assert set(answers()) == {b"ok"}


@pytest.mark.docker
def test_many_pods_whose_agent_is_killed_again_and_again_leave_the_host_as_it_was(host: HostNetwork) -> None:
    """An engine's containers beside them are not disturbed either."""
    host.inside("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")  # else our first network sets it, and it stays
    names = [f"p{number}" for number in range(PODS)]
    for name in names:
        host.write(f"{name}.yaml", sleeper(name, killPolicy={"signal": "SIGKILL"}, **CONNECTED))
    with talking(host):
        before, others = host.network(), len(host.links())
        for number in (1, PODS // 4, PODS // 2):
            killed_once(host, number)
        with host.agent() as agent:
            host.succeed("wait", *names, "--for", "running", "--timeout", "120s", timeout=130)
            assert len({address(host, name) for name in names}) == PODS
            eventually(lambda: len(host.links()) == others + PODS + 1, "a bridge, a port for each", seen=host.links)
            going = names[: PODS // 3]
            for name in going:
                host.delete(f"{name}.yaml")
            eventually(lambda: len(recorded(host)) < PODS - 3, "some are gone", within=60)
            agent.kill()
        with host.agent():
            host.succeed("wait", *going, "--for", "gone", "--timeout", "60s", timeout=70)
            left = others + PODS - len(going) + 1
            eventually(lambda: len(host.links()) == left, "theirs are gone", seen=host.links)
        host.succeed("destroy", "--all", timeout=120)
        eventually(lambda: host.network() == before, "the host is as it was", seen=host.network)
    assert not (host.root / "networks").exists()


def test_after_a_reboot_the_network_is_made_anew(host: HostNetwork) -> None:
    """The runtime directory is gone, with every process, the bridge and a link; the record is not, and one more link
    is still there: somebody holds the namespace of its other end."""
    before = host.network()
    checks = [{"http": {"port": 80, "path": "/hostname"}, **SOON}, {"name": "port", "tcp": {"port": 80}, **SOON}]
    host.write("web.yaml", document("web", command=WEB, healthChecks=checks, **CONNECTED))
    host.write("old.yaml", sleeper("old", **CONNECTED))
    with host.agent() as agent:
        host.succeed("wait", "web", "--for", "ready", "--timeout", "20s")
        host.succeed("wait", "old", "--for", "running", "--timeout", "20s")
        agent.kill()
    rows, links = host.rows(), host.links()
    holding = host.nursery.spawn(["nsenter", f"--net=/proc/{rows['old']['pid']}/ns/net", "sleep", "1000"])
    eventually(lambda: "sleep" in processes.cmdline(holding.pid), "it is there")
    for pid in [*(keeper.pid for keeper in host.keepers()), *(row["pid"] for row in rows.values())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(row["pid"] for row in host.rows().values()), "nothing runs")
    (held,) = attached(host, "old")["links"]
    for link in links:
        if link != held:
            host.inside("ip", "link", "delete", link)
    shutil.rmtree(host.runtime)
    host.delete("old.yaml")
    with host.agent():
        host.succeed("wait", "web", "--for", "ready", "--timeout", "20s")
        host.answers(f"http://{address(host, 'web')}/hostname")
        eventually(lambda: len(host.links()) == 2 and held not in host.links(), "a bridge, and one port")
    holding.kill()
    holding.wait()
    host.succeed("destroy", "--all", timeout=60)
    eventually(lambda: host.network() == before, "the host is as it was", seen=host.network)


def test_a_bridge_that_somebody_deletes_comes_back_with_all_that_were_on_it(host: HostNetwork) -> None:
    for name in ("web", "other"):
        host.write(f"{name}.yaml", document(name, command=WEB, isolators=LOOKED, **CONNECTED))
    with host.agent():
        host.succeed("wait", "web", "other", "--for", "running", "--timeout", "20s")
        eventually(
            lambda: all(
                '"found": true' in (host.root / "networks" / f"{name}.json").read_text() for name in ("web", "other")
            ),
            "they were looked at",
        )
        bridges = [
            each["ifname"] for each in json.loads(host.inside("ip", "-j", "link", "show", "type", "bridge").stdout)
        ]
        host.inside("ip", "link", "delete", *bridges)
        for name in ("web", "other"):
            row = until(host, name, lambda row: row["restarts"] >= 1 and row["pid"], "is connected anew", within=30)
            assert row["exit"]["reason"] == "NetworkLost" and "has no link" in row["exit"]["message"]
            host.answers(f"http://{address(host, name)}/hostname")
