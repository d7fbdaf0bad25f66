"""The table of rules that networks and published ports make, as nft(8) reads it."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

from reconciler.runtime.network.driver import Port
from reconciler.runtime.network.table import Publication, Segment, publications, ruleset

FRONT = Segment("rcfront", (IPv4Network("10.213.0.0/22"), IPv6Network("fd00::/64")))
BACK = Segment("rcback", (IPv4Network("10.9.0.0/24"),), internal=True)
ROUTED = Segment("rcrouted", (IPv4Network("10.8.0.0/24"),), masquerade=False)
WEB = [ip_address("10.213.0.2"), ip_address("fd00::2")]

WHOLE = """\
add table inet t
delete table inet t
table inet t {
  comment "reconciler x"

  chain ports {
    meta nfproto ipv4 tcp dport 8080 dnat ip to 10.213.0.2:80
    meta nfproto ipv6 tcp dport 8080 dnat ip6 to [fd00::2]:80
    ip daddr 127.0.0.1 udp dport 53 dnat ip to 10.213.0.2:53
  }

  chain to_containers { type nat hook prerouting priority -100; policy accept;
    fib daddr type local jump ports
  }

  chain from_host { type nat hook output priority -100; policy accept;
    fib daddr type local jump ports
  }

  chain no_strangers { type filter hook prerouting priority -300; policy accept;
    iifname { "rcfront", "rcback", "rcrouted" } ip saddr 127.0.0.0/8 drop
    iifname { "rcfront", "rcback", "rcrouted" } ip daddr 127.0.0.0/8 drop
  }

  chain forward { type filter hook forward priority 0; policy accept;
    ct state established,related accept
    ct status dnat accept
    iifname "rcfront" oifname "rcfront" accept
    iifname "rcback" oifname "rcback" accept
    iifname "rcrouted" oifname "rcrouted" accept
    iifname { "rcfront", "rcback", "rcrouted" } oifname { "rcfront", "rcback", "rcrouted" } drop
    iifname { "rcback" } drop
    oifname { "rcfront", "rcback" } drop
  }

  chain leaving { type nat hook postrouting priority 100; policy accept;
    ip saddr 10.213.0.0/22 oifname != "rcfront" masquerade
    ip saddr 10.213.0.0/22 oifname "rcfront" ct status dnat masquerade
    ip6 saddr fd00::/64 oifname != "rcfront" masquerade
    ip6 saddr fd00::/64 oifname "rcfront" ct status dnat masquerade
    ip saddr 127.0.0.0/8 oifname "rcfront" masquerade
    ip saddr 10.9.0.0/24 oifname != "rcback" masquerade
    ip saddr 10.9.0.0/24 oifname "rcback" ct status dnat masquerade
    ip saddr 127.0.0.0/8 oifname "rcback" masquerade
    ip saddr 10.8.0.0/24 oifname "rcrouted" ct status dnat masquerade
    ip saddr 127.0.0.0/8 oifname "rcrouted" masquerade
  }
}
"""


def test_the_table_says_what_each_network_and_port_asks_for() -> None:
    ports = publications([Port(8080, 80, "tcp"), Port(53, 53, "udp", "127.0.0.1")], WEB)
    assert ruleset("t", "reconciler x", [FRONT, BACK, ROUTED], ports) == WHOLE


def test_without_a_network_there_is_no_table() -> None:
    assert ruleset("t", "reconciler x", [], []) == "add table inet t\ndelete table inet t\n"


def test_a_port_leads_to_the_addresses_of_the_version_of_its_own() -> None:
    given = {ip: Port(80, 80, "tcp", ip) for ip in ("0.0.0.0", "::", "192.0.2.1", "2001:db8::1")}
    found = {ip: list(publications([port], WEB)) for ip, port in given.items()}
    assert found == {ip: [Publication(given[ip], WEB[":" in ip])] for ip in given}


def test_every_address_of_a_version_is_no_condition_of_its_own() -> None:
    text = ruleset("t", "", [FRONT], publications([Port(80, 80, "tcp", "::")], WEB))
    assert "    meta nfproto ipv6 tcp dport 80 dnat ip6 to [fd00::2]:80\n" in text
