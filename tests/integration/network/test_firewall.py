"""Our table of nftables on a host of its own, beside the program nft in the hands of somebody else."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.network.firewall import Firewall
from reconciler.runtime.network.table import Segment
from tests import network
from tests.e2e.checks import eventually

pytestmark = pytest.mark.root

SEGMENT = Segment("rc0", (IPv4Network("10.9.0.0/24"),))
TABLE = "inet reconciler_0123456789ab"


@pytest.fixture
def firewall() -> Iterator[Firewall]:
    with network.own_host():
        made = Firewall("0123456789abcdef")
        yield made
        made.hold([], [])


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "change",
    [
        "flush ruleset",
        f"delete table {TABLE}",
        f"flush chain {TABLE} forward",
        f"chain {TABLE} forward {{ policy drop; }}",
        f"insert rule {TABLE} forward drop",
        f"add table {TABLE} {{ flags dormant; }}",
    ],
)
def test_what_somebody_makes_of_the_table_is_put_back(firewall: Firewall, change: str) -> None:
    firewall.hold([SEGMENT], [])
    before = nft("list", "ruleset")
    nft(change)
    eventually(lambda: nft("list", "ruleset") == before, "it is as it was", seen=lambda: nft("list", "ruleset"))
    told = f"table {TABLE.split()[1]} of nftables was changed by somebody else, and is put back"
    eventually(lambda: firewall.mended() == told, "it is told", seen=firewall.mended)


def test_what_others_do_in_tables_of_their_own_has_nothing_written(firewall: Firewall) -> None:
    firewall.hold([SEGMENT], [])
    handles = nft("-a", "list", "table", *TABLE.split())
    nft("add table inet others { chain forward { type filter hook forward priority 0; policy drop; }; }")
    assert (firewall.mend(), firewall.mended()) == (None, None)
    assert nft("-a", "list", "table", *TABLE.split()) == handles


def test_what_nftables_does_not_take_is_told_and_nothing_is_there(
    firewall: Firewall, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(Retryable, match=r"nftables does not take the table .*: Error: syntax error"):
        firewall.hold([Segment('"', SEGMENT.ranges)], [])
    assert nft("list", "tables") == ""


def test_its_sockets_are_nobody_elses(firewall: Firewall) -> None:
    """What is executed meanwhile by other means than ours would inherit them."""
    firewall.hold([SEGMENT], [])
    there = [int(each.name) for each in Path("/proc/self/fd").iterdir()]
    found = {fd for fd in there if fd > 2 and _netlink(fd)}
    assert len(found) >= 2 and not [fd for fd in found if os.get_inheritable(fd)]


def _netlink(fd: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as found:
            return found.family == socket.AF_NETLINK
    except OSError:
        return False
