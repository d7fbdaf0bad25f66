"""Ports of the host, and which two mappings ask for the same one. Pure."""

from __future__ import annotations

from ipaddress import ip_address

from reconciler.spec.attachments import PortMapping


def valid(host_ip: str | None) -> bool:
    """Whether it is an address, or none."""
    try:
        return host_ip is None or bool(ip_address(host_ip))
    except ValueError:
        return False


def same_address(one: str | None, other: str | None) -> bool:
    """Whether one socket could be at both. None: all addresses; 0.0.0.0 and ::, all of that version."""
    if one is None or other is None:
        return True
    first, second = ip_address(one), ip_address(other)
    if first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified


def overlap(one: PortMapping, other: PortMapping) -> bool:
    return (one.host, one.protocol) == (other.host, other.protocol) and same_address(one.host_ip, other.host_ip)


def shown(port: PortMapping) -> str:
    """192.0.2.7:8080/tcp"""
    at = "" if port.host_ip is None else f"[{port.host_ip}]:" if ":" in port.host_ip else f"{port.host_ip}:"
    return f"{at}{port.host}/{port.protocol}"
