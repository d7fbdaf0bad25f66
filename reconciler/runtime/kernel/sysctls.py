"""Kernel parameters by name, sysctl(8). Standard library only."""

from __future__ import annotations

from pathlib import Path


def path(name: str) -> str:
    """Where the kernel keeps it. A slash in the name stands for a dot: net.ipv4.conf.eth0/100.forwarding."""
    return "/proc/sys/" + name.translate(str.maketrans("./", "/."))


def read(name: str) -> str | None:
    """None where this kernel, or what is on of it, has no such parameter."""
    try:
        return Path(path(name)).read_text().strip()
    except FileNotFoundError:
        return None


def write(name: str, value: str) -> None:
    """Raises OSError."""
    Path(path(name)).write_text(value)


def local_ports() -> range:
    """Those that the kernel gives to who binds to none in particular (ip-sysctl.rst, ip_local_port_range)."""
    first, last = (read("net.ipv4.ip_local_port_range") or "1 0").split()
    return range(int(first), int(last) + 1)
