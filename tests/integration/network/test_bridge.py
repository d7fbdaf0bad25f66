"""The driver `bridge` on a host of its own: links, addresses and rules as pyroute2 finds them, no code of ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from reconciler.runtime.isolators import network_rates
from reconciler.runtime.kernel.rtnetlink import Rtnetlink
from reconciler.runtime.network.bridge import BridgeDriver
from reconciler.runtime.network.driver import Request
from reconciler.runtime.network.namespaces import Namespace
from tests import network
from tests.e2e.checks import eventually

pytestmark = pytest.mark.root

OWNER = "0123456789abcdef"


@pytest.fixture
def host() -> Iterator[None]:
    with network.own_host():
        yield


class Seen:
    """What there is in the network namespace of this thread: by link, (up, its bridge's name, its addresses but those
    that the kernel gives, its limit), and where default routes lead."""

    def __init__(self) -> None:
        with IPRoute() as kernel:
            links = list(kernel.get_links())
            names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
            given = [(each["index"], each.get_attr("IFA_ADDRESS"), each["prefixlen"]) for each in kernel.get_addr()]
            rates = {each["index"]: each.get_attr("TCA_KIND") for each in kernel.get_qdiscs()}
            self.links = {
                names[link["index"]]: (
                    bool(link["flags"] & 1),
                    names.get(link.get_attr("IFLA_MASTER")),
                    {f"{ip}/{prefix}" for at, ip, prefix in given if at == link["index"] and not ip.startswith("fe80")},
                    rates.get(link["index"]) == "tbf",
                )
                for link in links
            }
            ways = [each for family in (2, 10) for each in kernel.get_default_routes(family=family)]
            self.ways = {each.get_attr("RTA_GATEWAY") for each in ways}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seen) and (self.links, self.ways) == (other.links, other.ways)

    def __repr__(self) -> str:
        return f"{self.links}, {self.ways}"


def test_a_host_without_ipv6_has_networks_of_ipv4(host: None, tmp_path: Path) -> None:
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    driver, request = BridgeDriver(OWNER, tmp_path), Request("shop", "bridge", "eth0")
    with network.namespace() as netns:
        given = driver.attach(request, Namespace(os.dup(netns)))
        with network.inside(netns):
            assert Seen().links["eth0"][2] == set(given.addresses)
        assert [ip_interface(each).version for each in given.addresses] == [4]
        driver.detach(request, given)
    eventually(lambda: Seen().links.keys() == {"lo"}, "the links are gone")


def test_a_bridge_that_is_begun_and_nobody_comes_to_goes_again(host: None, tmp_path: Path) -> None:
    driver, request = BridgeDriver(OWNER, tmp_path), Request("shop", "bridge", "eth0")
    driver.begin(request)
    eventually(lambda: len(Seen().links) == 2, "it is there")
    eventually(lambda: Seen().links.keys() == {"lo"}, "it is gone")


def test_what_somebody_takes_of_a_network_is_found_and_given_back(host: None, tmp_path: Path) -> None:
    """Addresses, routes, ports and links that are down, on the host and inside, with the limits: nothing else is."""
    driver, request = BridgeDriver(OWNER, tmp_path), Request("shop", "bridge", "eth0", ingress=1 << 20, egress=1 << 33)
    with network.namespace() as netns, contextlib.closing(Namespace(os.dup(netns))) as namespace:
        given = driver.attach(request, namespace)
        network_rates.enforce(namespace, request)
        there = namespace.inside()

        def told() -> dict[str, float | None]:
            with Rtnetlink() as here:
                taken = sum(map(len, driver.taken(request, given, here, there)))
            return {"taken": taken, **network_rates.in_force(namespace, request)}

        def seen() -> list[Seen]:
            with network.inside(netns):
                inside = Seen()
            return [Seen(), inside]

        def give_back() -> None:
            with Rtnetlink() as here:
                for link, messages in zip((here, there), driver.taken(request, given, here, there), strict=True):
                    link.carry_out(*messages)
            network_rates.enforce(namespace, request)

        well = {"taken": 0, "interface.eth0.ingress_limit": 1 << 20, "interface.eth0.egress_limit": 1 << 33}
        (port,), before = given.links, seen()
        assert told() == well and before[1].ways == set(given.gateways) and before[1].links["eth0"][3]
        bridge = before[0].links[port][1]
        with IPRoute() as kernel:
            (at,), (whole,) = kernel.link_lookup(ifname=port), kernel.link_lookup(ifname=bridge)
            kernel.flush_addr(index=whole)
            kernel.link("set", index=at, master=0, state="down")
            kernel.tc("del", index=at, parent=0xFFFFFFFF)
        assert told() == {**well, "taken": 4, "interface.eth0.ingress_limit": None}  # two addresses, a port, that is up
        give_back()
        with network.inside(netns), IPRoute() as kernel:
            (eth0,) = kernel.link_lookup(ifname="eth0")
            kernel.tc("del", index=eth0, parent=0xFFFFFFFF)
            kernel.link("set", index=eth0, state="down")
            kernel.flush_addr(index=eth0, family=2)
        assert told() == {
            **well,
            "taken": 5,
            "interface.eth0.egress_limit": None,
        }  # it is up, two addresses, two routes
        give_back()
        assert seen() == before and told() == well
        driver.detach(request, given)
    eventually(lambda: Seen().links.keys() == {"lo"}, "the links are gone")
