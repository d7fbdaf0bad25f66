"""What /etc/hosts and /etc/resolv.conf of pods say, and that a file is rewritten where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.runtime.network import etc
from reconciler.runtime.network.names import UNREACHABLE, Pod, hosts, resolver

SHOP = Pod("shop", "front", ["shop.web"], {"bridge": ["10.0.0.2", "fd00::2"], "back": ["10.1.0.2"]})
DATA = Pod("data", None, [], {"back": ["10.1.0.3"]})
THIEF = Pod("thief", "data", [], {"back": ["10.1.0.4"]})
LOOPBACK = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]


def lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def test_a_pod_has_itself_first_and_others_by_the_networks_it_shares_with_them() -> None:
    told = hosts([SHOP, DATA])
    own = [f"{address}\t{name}" for address in ("10.0.0.2", "fd00::2", "10.1.0.2") for name in ("front", "shop")]
    assert [each for each in lines(told["shop"]) if not each.endswith("shop.web")] == [
        *LOOPBACK,
        *own,
        "10.1.0.3\tdata",
    ]
    assert lines(told["data"]) == [
        *LOOPBACK,
        "10.1.0.3\tdata",
        "10.1.0.2\tshop",
        "10.1.0.2\tshop.web",
        "10.1.0.2\tfront",
    ]


def test_nobody_takes_the_name_of_a_container_by_calling_his_host_that() -> None:
    told = hosts([SHOP, DATA, THIEF])["shop"]
    assert [each for each in lines(told) if each.endswith("\tdata")] == ["10.1.0.3\tdata"]
    assert "10.1.0.4\tthief" in told


def test_alone_it_knows_itself() -> None:
    assert lines(hosts([Pod("shop")])["shop"]) == [*LOOPBACK, "127.0.1.1\tshop"]


@pytest.mark.parametrize(
    ("given", "texts", "expected"),
    [
        ([], ["nameserver 10.0.0.1\ndomain a\nsearch b c\noptions ndots:2\n"], "10.0.0.1|search b c|options ndots:2"),
        ([], ["nameserver 127.0.0.53\nsearch a\n", "nameserver 192.0.2.1\nsearch b\n"], "192.0.2.1|search b"),
        ([], ["nameserver ::1\nnameserver fe80::1%eth0\nsearch a\n"], f"{UNREACHABLE}|search a"),
        ([{}, {"nameservers": ["10.9.9.9"]}], ["nameserver 10.0.0.1\nsearch a\n"], "10.9.9.9"),
        ([{"search": ["x"]}], ["nameserver 10.0.0.1\nsearch a\n"], "10.0.0.1|search x"),
        ([], [], ""),
    ],
)
def test_resolvers(given: list[dict[str, list[str]]], texts: list[str], expected: str) -> None:
    assert resolver(given, texts).replace("nameserver ", "").removesuffix("\n").replace("\n", "|") == expected


def test_a_reader_keeps_its_file_and_sees_it_grow_and_shrink(tmp_path: Path) -> None:
    etc.create(tmp_path, etc.HOSTS, "1\ta\n")
    with (tmp_path / etc.HOSTS).open() as held:
        for text in ("1\ta\n2\tb\n3\tc\n", "3\tc\n", ""):
            etc.rewrite(tmp_path, etc.HOSTS, text)
            held.seek(0)
            assert held.read() == text
    assert (tmp_path / etc.HOSTS).stat().st_mode & 0o777 == 0o644
    etc.remove(tmp_path)
    etc.rewrite(tmp_path, etc.HOSTS, "what is not there is not made")
    assert not list(tmp_path.iterdir())
