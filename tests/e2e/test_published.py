"""Ports that lead into containers, and ways out of them, as another host, this one and the containers see it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests import processes
from tests.e2e import host_network
from tests.e2e.checks import eventually, instance, message_contains, not_restarted, plan_is_empty, until
from tests.e2e.host_network import HostNetwork
from tests.e2e.world import World, document, sleeper

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

CONNECTED = {"namespaces": {"network": "private"}, "networks": [{"name": "bridge"}]}
HOST, HOST6 = "198.51.100.1", "2001:db8:51::1"
CLIENT, CLIENT6 = "198.51.100.2", "2001:db8:51::2"
WHO = """
import socket, sys, threading
def tcp():
    listening = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        talk, who = listening.accept()
        talk.sendall(f"{sys.argv[1]} sees {who[0]}".encode())
        talk.close()
threading.Thread(target=tcp).start()
answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
answering.bind(("", 53))
while True:
    said, who = answering.recvfrom(99)
    answering.sendto(f"{sys.argv[1]} sees {who[0]}".encode(), who)
"""
ASK = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
with socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, kind) as talk:
    talk.settimeout(float(sys.argv[4]))
    talk.connect((sys.argv[2], int(sys.argv[3])))
    if sys.argv[1] == "udp":
        talk.sendall(b"who?")
    print(talk.recv(99).decode().replace("::ffff:", ""))
"""


def who(name: str) -> list[str]:
    return ["python3", "-c", WHO, name]


def ask(protocol: str, address: str, port: int, seconds: float = 5) -> list[str]:
    return ["python3", "-c", ASK, protocol, address, str(port), str(seconds)]


class Site(HostNetwork):
    """That host, and another one, which reaches it by a link."""

    def __init__(self, nursery: processes.Nursery, holder: int, client: int) -> None:
        super().__init__(nursery, holder)
        self.client = client
        self.inside("ip", "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", str(client))
        for address in (f"{HOST}/24", f"{HOST6}/64"):
            self.inside("ip", "address", "add", address, "dev", "out", "nodad")
        self.inside("ip", "link", "set", "out", "up", "addrgenmode", "none")
        for address in (f"{CLIENT}/24", f"{CLIENT6}/64"):
            self.at_the_client("ip", "address", "add", address, "dev", "eth0", "nodad")
        self.at_the_client("ip", "link", "set", "eth0", "up", "addrgenmode", "none")

    def at_the_client(self, *command: str) -> str:
        done = self.nursery.run(["nsenter", f"--net=/proc/{self.client}/ns/net", "--", *command])
        return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]

    def here(self, *command: str) -> str:
        done = self.inside(*command)
        return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]

    def at(self, name: str, *command: str) -> str:
        done = self.reconciler("exec", name, "--", *command)
        return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]

    def table(self) -> str:
        return self.inside("nft", "list", "ruleset").stdout

    def address(self, name: str) -> str:
        (line, *_) = json.loads((self.root / "networks" / f"{name}.json").read_text())
        return str(line["attachment"]["addresses"][0].partition("/")[0])


@pytest.fixture
def site(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    with host_network.holder(nursery) as client:
        yield from host_network.live(request, nursery, lambda nursery, holder: Site(nursery, holder, client))


def test_a_port_is_reached_from_everywhere_and_its_rules_come_back(site: Site) -> None:
    """By another host, over IPv4, IPv6 and UDP; by this one, at its own address and its loopback; by another pod, and
    by itself. What is not published is not. Rules that somebody flushes are there again, also for the next agent."""
    site.inside("sysctl", "-qw", "net.ipv4.ip_forward=0")
    ports = [{"host": 8080, "container": 80}, {"host": 5353, "container": 53, "protocol": "udp"}]
    looked_at = {"isolators": {"network": {"interval": "1s"}}}
    site.write("web.yaml", document("web", command=who("web"), ports=ports, **CONNECTED, **looked_at))
    site.write("back.yaml", sleeper("back", **CONNECTED))
    with site.agent() as agent:
        web = instance(site, "web")
        instance(site, "back")
        eventually(lambda: "web sees" in site.here(*ask("tcp", site.address("web"), 80)), "it listens")
        asked = ask("tcp", HOST, 8080)
        assert site.at_the_client(*asked) == f"web sees {CLIENT}"
        assert site.at_the_client(*ask("tcp", HOST6, 8080)) == f"web sees {CLIENT6}"
        assert site.at_the_client(*ask("udp", HOST, 5353)) == f"web sees {CLIENT}"
        assert site.here(*asked) == f"web sees {HOST}"
        assert "web sees" in site.here(*ask("tcp", "127.0.0.1", 8080))
        assert "web sees" in site.at("back", *asked)
        assert "web sees" in site.at("web", *asked)
        site.at_the_client("ip", "route", "add", "10.213.0.0/16", "via", HOST)
        assert "timed out" in site.at_the_client(*ask("tcp", site.address("web"), 80, 0.5))
        site.inside("nft", "flush", "ruleset")
        eventually(lambda: "dport" in site.table(), "it is put back")
        told = "nftables was changed by somebody else, and is put back"
        message_contains(site, "web", told)
        eventually(lambda: told in site.succeed("events", "web"), "it is an event")
        assert site.at_the_client(*asked) == f"web sees {CLIENT}"
        table = site.table()
        agent.kill()
    site.inside("nft", "flush", "ruleset")
    with site.agent():
        assert site.table() == table
        not_restarted(site, web)
        plan_is_empty(site)
        site.delete("web.yaml")
        site.succeed("wait", "web", "--for", "gone", "--timeout", "20s")
        assert "dport" not in site.table() and "masquerade" in site.table()
        site.delete("back.yaml")
        site.succeed("wait", "back", "--for", "gone", "--timeout", "20s")
        eventually(lambda: site.links() == ["out"] and not site.table(), "nothing is left", seen=site.network)


def test_who_leaves_a_network_appears_as_the_host(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        server = site.nursery.spawn(["nsenter", f"--net=/proc/{site.client}/ns/net", *who("client")])
        stack.callback(server.wait)
        stack.callback(server.kill)
        site.write("web.yaml", sleeper("web", **CONNECTED))
        stack.enter_context(site.agent())
        until(site, "web", lambda row: row["status"] == "Running", "runs")
        eventually(lambda: "client sees" in site.here(*ask("tcp", CLIENT, 80)), "it listens")
        assert site.at("web", *ask("tcp", CLIENT, 80)) == f"client sees {HOST}"
        assert site.at("web", *ask("tcp", CLIENT6, 80)) == f"client sees {HOST6}"


def test_a_port_that_is_somebody_elses_is_refused_with_its_owner(site: Site) -> None:
    """Another container's by `plan`, a program's of the host at the launch, which is tried again."""
    ports = [{"host": 8080, "container": 80}]
    site.write("also.yaml", sleeper("also", ports=ports, **CONNECTED))
    site.write("web.yaml", sleeper("web", ports=[{**ports[0], "hostIP": HOST}], **CONNECTED))
    told = site.reconciler("plan", site.specs)
    assert "web.yaml" in told.stderr + told.stdout
    assert "port 198.51.100.1:8080/tcp of the host is that of also (" in told.stderr + told.stdout
    listening = site.nursery.spawn([*site.within, "busybox", "httpd", "-f", "-p", "8080"])
    eventually(lambda: ":8080 " in site.here("ss", "-Hltn"), "it listens")
    with site.agent():
        row = until(site, "also", lambda row: "listens" in row["message"], "is told who has it")
        assert f"busybox (process {listening.pid}) listens on" in row["message"], row
        assert (site.rows()["web"]["status"], site.rows()["web"]["reason"]) == ("Conflict", "PortTaken")
        listening.kill()
        listening.wait()
        until(site, "also", lambda row: row["status"] == "Running", "has it now")
        site.delete("also.yaml")
        until(site, "web", lambda row: row["status"] == "Running", "has it now")
