"""Kernel parameters by name, sysctl(8). Standard library only."""

from __future__ import annotations


def path(name: str) -> str:
    """Where the kernel keeps it. A slash in the name stands for a dot: net.ipv4.conf.eth0/100.forwarding."""
    return "/proc/sys/" + name.translate(str.maketrans("./", "/."))
