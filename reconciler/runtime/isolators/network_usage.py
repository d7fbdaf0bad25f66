"""What went through a pod's network: part of the isolator `network`, its figures as `usage` has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from reconciler.runtime.containerizer import OF_INTERFACE, Usage
from reconciler.runtime.isolators.isolator import Context, PassiveIsolator
from reconciler.runtime.kernel import netstat

_LOOPBACK = "lo"
_SUMS = ("received_bytes", "sent_bytes")


class NetworkUsage(PassiveIsolator):
    """All of the isolator that `stats` needs, which is to answer at once."""

    name = "network"

    def usage(self, context: Context) -> Usage:
        return {} if "." in context.name else used(context.first)


def used(first: Iterable[int]) -> Usage:
    """Of a pod, by host pids of its processes; nothing for one on the host's network. `lo` is shown, and not counted
    in the sums."""
    own = Path("/proc/self/ns/net").readlink()
    for pid in first:
        try:
            if Path(f"/proc/{pid}/ns/net").readlink() == own:
                return {}
            return _figures(pid)
        except OSError:  # it is gone
            continue
    return {}


def _figures(pid: int) -> Usage:
    links = {name: asdict(each) for name, each in netstat.traffic(pid).items()}
    found: dict[str, int | float | None] = {
        f"{OF_INTERFACE}{name}.{which}": figure for name, each in links.items() for which, figure in each.items()
    }
    for which in _SUMS:
        found[which] = sum(each[which] for name, each in links.items() if name != _LOOPBACK)
    return found | {f"tcp_{which}": figure for which, figure in asdict(netstat.tcp(pid)).items()}
