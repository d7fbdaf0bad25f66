"""Networks of ours and of a Docker Engine on one host: neither disturbs the other."""

from __future__ import annotations

import pytest

from tests import engine
from tests.e2e.checks import gone, instance, not_restarted
from tests.e2e.host_network import HostNetwork
from tests.e2e.world import document

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.cgroup,
    pytest.mark.skipif(bool(engine.missing()), reason=engine.missing()),
]

THEIRS, OURS = "http://127.0.0.1:8081/passwd", "http://127.0.0.1:8082/passwd"
SERVE = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]
_RULES = ("iptables-save", "ip6tables-save", "nft -s list ruleset", "ip -o link show type bridge", "ip route")


def rules(host: HostNetwork) -> set[str]:
    """Without remarks and counts of packets."""
    said = (line for command in _RULES for line in host.inside(*command.split()).stdout.splitlines())
    return {line.partition(" [")[0] for line in said if not line.startswith("#")}


def test_published_ports_of_both_answer_whichever_comes_and_goes(host: HostNetwork) -> None:
    """The engine's rules stay as they were, also when it makes them anew; ours are gone with the last container."""
    with engine.running(host.within, "10.97.0.1/24") as server:
        published = {"PortBindings": {"80/tcp": [{"HostPort": "8081"}]}}
        body = {"Image": engine.IMAGE, "Cmd": SERVE[1:], "ExposedPorts": {"80/tcp": {}}, "HostConfig": published}
        made = server.api.create_container_from_config(body, "theirs")["Id"]
        server.api.start(made)
        direct = f"http://{server.api.inspect_container(made)['NetworkSettings']['IPAddress']}/passwd"
        for url in (THEIRS, direct):
            host.answers(url)
        before = rules(host)
        ports = [{"host": 8082, "container": 80}]
        host.write("ours.yaml", document("ours", command=SERVE, namespaces={"network": "private"}, ports=ports))
        with host.agent():
            ours = instance(host, "ours")
            for url in (OURS, THEIRS, direct):
                host.answers(url)
            assert before <= rules(host)
            server.stop()
            server.start()
            for url in (OURS, THEIRS, direct):
                host.answers(url)
            not_restarted(host, ours)
            host.delete("ours.yaml")
            gone(host, "ours", ours)
            for url in (THEIRS, direct):
                host.answers(url)
        assert rules(host) == before
        server.api.remove_container(made, force=True)
