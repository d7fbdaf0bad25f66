"""Networks of a file, on a host's network of their own: who reaches whom, and what is refused."""

from __future__ import annotations

import json

import pytest

from tests.e2e.checks import eventually, instance, not_restarted, plan_is_empty, until
from tests.e2e.host_network import HostNetwork
from tests.e2e.world import document, sleeper

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

NETWORKS = """
networks:
  back: {subnet: 10.99.1.0/24, subnet6: "fd99:1::/64", mtu: 1400, internal: true}
  front: {subnet: 10.99.2.0/24}
  taken: {subnet: 10.99.3.0/24}
"""
SERVE = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]


def on(*networks: str) -> dict[str, object]:
    return {"namespaces": {"network": "private"}, "networks": [{"name": name} for name in networks]}


def test_networks_of_a_file_are_apart_and_each_as_it_says(host: HostNetwork) -> None:
    """One container is on both, and reaches the others, which do not reach each other."""
    host.inside("ip", "link", "add", "other", "type", "bridge")
    host.inside("ip", "address", "add", "10.99.3.1/26", "dev", "other")
    file = host.base / "networks.yaml"
    file.write_text(NETWORKS)
    host.write("store.yaml", document("store", command=SERVE, **on("back")))
    host.write("web.yaml", document("web", command=SERVE, **on("front")))
    host.write("both.yaml", sleeper("both", **on("front", "back")))
    host.write("late.yaml", sleeper("late", **on("taken")))

    def reaches(name: str, whom: str) -> bool:
        asked = f"import urllib.request as u; print(u.urlopen('http://{whom}/hostname', timeout=1).status)"
        return "200" in host.reconciler("exec", name, "--", "python3", "-c", asked).stdout

    def shown(name: str, *what: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(host.succeed("exec", name, "--", "ip", "-j", *what))
        return found

    def addresses(name: str) -> list[str]:
        (line, *_) = json.loads((host.root / "networks" / f"{name}.json").read_text())
        return [each.partition("/")[0] for each in line["attachment"]["addresses"]]

    with host.agent("--networks", file):
        row = until(host, "late", lambda row: "collides" in row["message"], "what is in the way is named")
        assert "10.99.3.0/24 collides with 10.99.3.0/26 of this host" in row["message"]
        told = host.reconciler("doctor").stdout
        assert "ok   network      back (bridge): can be had" in told
        assert "BAD  network      taken (bridge): network taken: its range 10.99.3.0/24 collides with" in told
        host.inside("ip", "link", "del", "other")
        store = instance(host, "store")
        for name in ("web", "both"):
            instance(host, name)
        eventually(lambda: reaches("both", "store") and reaches("both", "web"), "by name, on each network")
        address, address6 = addresses("store")
        assert reaches("both", f"[{address6}]") and address6.startswith("fd99:1::")
        assert not reaches("web", address) and not reaches("store", addresses("web")[0])
        assert not reaches("store", "web")  # nor does it know the name
        assert [each["mtu"] for each in shown("both", "link") if each["ifname"] != "lo"] == [1500, 1400]
        assert shown("store", "route", "show", "default") == []
        assert [each["gateway"] for each in shown("both", "route", "show", "default")] == ["10.99.2.1"]
        until(host, "late", lambda row: row["status"] == "Running", "it can be had now", within=40)
        plan_is_empty(host)
    file.write_text("networks: {back: {subnet: 10.99.7.0/24}}")
    with host.agent("--networks", file):
        not_restarted(host, store)
        assert reaches("both", "store")  # as it was made, until the last one has left it
    file.write_text("networks: {back: {subnet: 10.99.7.1/24}}")
    told = host.reconciler("run", "--networks", file, host.specs)
    assert told.returncode != 0 and f"{file}:1:19: networks.back.subnet: 10.99.7.1/24 is one address" in told.stderr
