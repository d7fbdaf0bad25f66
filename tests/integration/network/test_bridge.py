"""The driver `bridge` on a host of its own: links, addresses and rules as the kernel has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest

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


def addresses(netns: int) -> list[str]:
    with network.inside(netns), Rtnetlink() as there:
        index = there.index("eth0")
        return [str(each) for at, each in there.addresses() if at == index and not each.ip.is_link_local]


def test_a_host_without_ipv6_has_networks_of_ipv4(host: None, tmp_path: Path) -> None:
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    driver, request = BridgeDriver(OWNER, tmp_path), Request("shop", "bridge", "eth0")
    with network.namespace() as netns:
        given = driver.attach(request, Namespace(os.dup(netns)))
        assert list(given.addresses) == addresses(netns)
        assert [ip_interface(each).version for each in given.addresses] == [4]
        driver.detach(request, given)
    with Rtnetlink() as here:
        eventually(lambda: [link.name for link in here.links()] == ["lo"], "the links are gone")
