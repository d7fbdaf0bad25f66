"""What went through a network namespace, as /proc shows it to and of any process in it: proc_pid_net(5).

The figures are of the namespace since it was made; those of TCP are of IPv4 and IPv6 together (net/ipv4/proc.c).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of one interface, as it has it: received is what came in."""

    received_bytes: int
    received_packets: int
    received_errors: int
    received_drops: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int
    sent_drops: int


@dataclass(frozen=True, slots=True)
class Tcp:
    """established: connections at this moment. retransmits: segments sent again. listen_overflows, listen_drops: what
    wanted a connection and found the queue of a listening socket full, or was turned away for any reason."""

    established: int
    retransmits: int
    listen_overflows: int
    listen_drops: int


def traffic(pid: int) -> dict[str, Traffic]:
    """By interface. Raises OSError when the process is gone."""
    return parse_traffic(_read(pid, "dev"))


def tcp(pid: int) -> Tcp:
    """The same."""
    return parse_tcp(_read(pid, "snmp"), _read(pid, "netstat"))


def parse_traffic(text: str) -> dict[str, Traffic]:
    found = {}
    for line in text.splitlines()[2:]:
        name, _, figures = line.partition(":")
        told = [int(each) for each in figures.split()]
        found[name.strip()] = Traffic(*told[:4], *told[8:12])
    return found


def parse_tcp(snmp: str, netstat: str) -> Tcp:
    told, more = _table(snmp).get("Tcp", {}), _table(netstat).get("TcpExt", {})
    listen = more.get("ListenOverflows", 0), more.get("ListenDrops", 0)
    return Tcp(told.get("CurrEstab", 0), told.get("RetransSegs", 0), *listen)


def _table(text: str) -> dict[str, Mapping[str, int]]:
    """A line of names, and one of their figures, for each protocol."""
    lines = [line.split() for line in text.splitlines()]
    pairs = zip(lines[::2], lines[1::2], strict=False)
    return {names[0].rstrip(":"): dict(zip(names[1:], map(int, figures[1:]), strict=False)) for names, figures in pairs}


def _read(pid: int, file: str) -> str:
    return Path(f"/proc/{pid}/net/{file}").read_text(encoding="ascii", errors="replace")
