"""Figures of a network namespace, as the kernel writes them and as `stats` tells them."""

from __future__ import annotations

from reconciler.runtime.kernel.netstat import Tcp, Traffic, parse_tcp, parse_traffic
from reconciler.runtime.mesos.measuring import Sample, as_json

DEV = """Inter-|   Receive
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier …
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0
eth0.7:1147654803   28770    1    2    0     0          0         0  2200338   17617    3    4    0     0       0
"""
SNMP = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: RtoMax MaxConn CurrEstab RetransSegs\nTcp: 120000 -1 5 8\n"
NETSTAT = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 6 7\nIpExt: InNoRoutes\nIpExt: 0\n"


def test_what_the_kernel_writes_is_read() -> None:
    assert parse_traffic(DEV)["eth0.7"] == Traffic(1147654803, 28770, 1, 2, 2200338, 17617, 3, 4)
    assert parse_tcp(SNMP, NETSTAT) == Tcp(5, 8, 6, 7)
    assert parse_tcp("", "") == Tcp(0, 0, 0, 0)


def test_interfaces_are_told_by_name_whatever_dots_they_have() -> None:
    usage = {"received_bytes": 3, "interface.eth0.7.received_bytes": 3, "interface.lo.sent_drops": 0}
    told = as_json("shop", Sample("r", 1, usage), None)
    assert (told["receivedBytes"], told["tcpEstablished"]) == (3, None)
    assert told["interfaces"] == {"eth0.7": {"receivedBytes": 3}, "lo": {"sentDrops": 0}}
