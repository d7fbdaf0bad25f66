"""CNI networks of Debian's own plugins, in a network namespace that stands for the host's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.e2e import host_network
from tests.e2e.checks import eventually
from tests.e2e.host_network import HostNetwork
from tests.e2e.world import World, document, sleeper

PLUGINS = Path("/usr/lib/cni")
CHAIN = ("ptp", "host-local", "portmap", "bandwidth", "tuning")
HOST = "198.51.100.1"
RATES = {"ingressRate": 80_000_000, "ingressBurst": 8_000_000, "egressRate": 80_000_000, "egressBurst": 8_000_000}

pytestmark = [
    pytest.mark.root,
    pytest.mark.cgroup,
    pytest.mark.skipif(
        not all((PLUGINS / each).exists() for each in CHAIN), reason="needs Debian's containernetworking-plugins"
    ),
]


class Lab(HostNetwork):
    """The network `lab`, of a chain that leases addresses below the world's own directory."""

    def __init__(self, nursery: processes.Nursery, holder: int) -> None:
        super().__init__(nursery, holder)
        self.configurations, self.leases = self.base / "net.d", self.base / "leases"
        self.configurations.mkdir()
        self.flags = ("--network-cni-config-dir", str(self.configurations))
        ipam = {
            "type": "host-local",
            "dataDir": str(self.leases),
            "subnet": "10.88.7.0/24",
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        self.chain = [
            {"type": "ptp", "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "bandwidth", **RATES},
            {"type": "tuning", "sysctl": {"net.core.somaxconn": "321"}},
        ]
        self.configure(*self.chain)

    def configure(self, *plugins: object) -> None:
        whole = {"cniVersion": "1.0.0", "name": "lab", "plugins": plugins}
        (self.configurations / "lab.conflist").write_text(json.dumps(whole))

    def leased(self) -> list[str]:
        directory = self.leases / "lab"
        return sorted(each.name for each in directory.iterdir() if each.name[0].isdigit()) if directory.is_dir() else []


@pytest.fixture
def lab(request: pytest.FixtureRequest, nursery: processes.Nursery) -> Iterator[World]:
    yield from host_network.live(request, nursery, Lab)


def connected(name: str = "web", **spec: object) -> dict[str, object]:
    return {"namespaces": {"network": "private"}, "networks": [{"name": "lab"}], **spec}


def test_a_chain_is_added_checked_mended_and_taken_away_whatever_becomes_of_the_agent(lab: Lab) -> None:
    serving = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]
    health = [{"http": {"port": 80, "path": "/hostname"}, "delay": "0s", "interval": "1s", "role": "readiness"}]
    looked = {"network": {"interval": "1s"}}
    lab.write("web.yaml", document("web", command=serving, **connected(isolators=looked, healthChecks=health)))
    with lab.agent() as agent:
        lab.succeed("wait", "web", "--for", "ready", "--timeout", "20s")  # asked in its network, not the host's
        (address,) = lab.leased()
        lab.answers(f"http://{address}/hostname")
        assert lab.succeed("exec", "web", "--", "cat", "/proc/sys/net/core/somaxconn") == "321\n"
        assert len(lab.links()) == 2, "ptp's, and bandwidth's"
        eventually(lambda: '"found": true' in (lab.root / "networks" / "web.json").read_text(), "CHECK has passed")
        agent.kill()
    with lab.agent():
        row = lab.rows()["web"]
        assert (row["status"], row["restarts"]) == ("Running", 0)
        lab.nursery.run(["nsenter", f"--net=/proc/{row['pid']}/ns/net", "ip", "route", "del", "default"])
        eventually(lambda: lab.rows()["web"]["restarts"] == 1 and lab.rows()["web"]["ready"], "it is made anew")
        ended = lab.rows()["web"]["exit"]
        assert ended["reason"] == "NetworkLost" and "CNI plugin ptp, CHECK eth0 of network lab" in ended["message"]
        (address,) = lab.leased()
        lab.answers(f"http://{address}/hostname")
        lab.delete("web.yaml")
        lab.succeed("wait", "web", "--for", "gone", "--timeout", "20s")
    eventually(lambda: lab.links() == [], "no link is left")
    assert lab.leased() == [] and not (lab.root / "networks").exists()


def test_after_a_reboot_each_lease_is_given_back_and_one_taken(lab: Lab) -> None:
    """The runtime directory is gone, with every process and link; what the plugins keep on the disk is not. The port
    that portmap published leads to the new address, and nowhere in the end."""
    ports = [{"host": 8087, "container": 80, "hostIP": HOST}]
    serving = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]
    lab.inside("ip", "address", "add", f"{HOST}/32", "dev", "lo")
    lab.write("web.yaml", document("web", command=serving, **connected(ports=ports)))
    lab.write("old.yaml", sleeper("old", **connected()))
    with lab.agent() as agent:
        lab.succeed("wait", "web", "old", "--for", "running", "--timeout", "20s")
        before = lab.leased()
        assert len(before) == 2
        lab.answers(f"http://{HOST}:8087/hostname")
        agent.kill()
    pids = [*(keeper.pid for keeper in lab.keepers()), *(row["pid"] for row in lab.rows().values())]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(row["pid"] for row in lab.rows().values()), "nothing runs")
    for link in lab.links():
        lab.inside("ip", "link", "delete", link)  # or it went by itself
    shutil.rmtree(lab.runtime)
    lab.delete("old.yaml")
    with lab.agent():
        lab.succeed("wait", "web", "--for", "running", "--timeout", "20s")
        (now,) = lab.leased()
        assert now not in before, "host-local gives the next one"
        assert len(lab.links()) == 2
        lab.answers(f"http://{HOST}:8087/hostname")
        lab.delete("web.yaml")
        lab.succeed("wait", "web", "--for", "gone", "--timeout", "20s")
    assert "8087" not in lab.inside("iptables-save").stdout


def test_an_agent_killed_while_a_plugin_runs_leaves_nothing_and_starts_it_once(lab: Lab) -> None:
    """At the second of two networks, in the middle of its chain: one attachment is whole, the other half made."""
    plugins, killed = lab.base / "plugins", lab.base / "killed"
    plugins.mkdir()
    pid = 'pid=${CNI_NETNS#/proc/}; kill -9 "${pid%%/*}"'
    kill = f'[ "$CNI_COMMAND" = ADD ] && ! [ -e {killed} ] && touch {killed} && {{ {pid}; sleep 1; }}'
    passes = "import json, sys; print(json.dumps(json.load(sys.stdin).get('prevResult', {})))"
    (plugins / "killer").write_text(f'#!/bin/sh\n{kill}\nexec /usr/bin/env python3 -c "{passes}"\n')
    (plugins / "killer").chmod(0o755)
    lab.flags = (*lab.flags, "--network-cni-plugins-dir", f"{PLUGINS},{plugins}")
    lab.configure(lab.chain[0], {"type": "killer"})
    two = {**connected(), "networks": [{"name": "bridge"}, {"name": "lab"}]}
    lab.write("web.yaml", sleeper("web", **two))
    agent = lab.start()
    agent.process.wait(20)
    assert killed.exists() and len(lab.leased()) == 1
    with lab.agent():
        lab.succeed("wait", "web", "--for", "running", "--timeout", "20s")
        assert lab.rows()["web"]["restarts"] == 0 and len(lab.leased()) == 1
        eventually(lambda: len(lab.links()) == 3, "a bridge, a port of it, and ptp's link")
        lab.delete("web.yaml")
        lab.succeed("wait", "web", "--for", "gone", "--timeout", "20s")
    eventually(lambda: lab.links() == [], "no link is left")
    assert lab.leased() == []


def test_what_is_wrong_with_a_configuration_is_told_before_anything_is_done(lab: Lab) -> None:
    lab.write("web.yaml", sleeper("web", **connected()))
    lab.configure({"type": "nothing-like-it"})
    answer = lab.reconciler("plan", lab.specs)
    assert "there is no CNI plugin nothing-like-it in" in answer.stdout + answer.stderr
    (lab.configurations / "lab.conflist").write_text('{"cniVersion": "9.9.9", "name": "lab", "type": "ptp"}')
    answer = lab.reconciler("plan", lab.specs)
    assert "lab.conflist cannot be used: cniVersion: '9.9.9' is not spoken" in answer.stdout + answer.stderr
