"""Isolator `cgroups/pids`: how many processes and threads a container may have at once.

The kernel refuses further forks with EAGAIN and kills nothing; a limit below present usage would only stop new forks,
yet is not forced, as for memory. The files are the same on v1 and v2 (Documentation/admin-guide/cgroup-v1/pids.rst).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.runtime.containerizer import Usage
from reconciler.runtime.isolators.controllers import ControllerIsolator, below_usage, refuse_without
from reconciler.runtime.isolators.isolator import Context

if TYPE_CHECKING:
    from reconciler.spec.model import ResourceAmounts

FIELD = "resources.limits.pids"
_SAME: dict[int, None] = {1: None, 2: None}


class PidsIsolator(ControllerIsolator):
    name = "cgroups/pids"
    controllers = frozenset({"pids"})

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        place = self.place(context, "pids", _SAME)
        if place is None:
            refuse_without("pids", FIELD, limits.pids)
            return
        if limits.pids is None:
            place.write("pids.max", "max")
            return
        old, current = place.number("pids.max"), place.number("pids.current") or 0
        if current > limits.pids:
            kept = "no limit" if old is None else f"the limit of {old}"
            raise below_usage(FIELD, str(limits.pids), str(current), kept)
        place.write("pids.max", limits.pids)

    def usage(self, context: Context) -> Usage:
        place = self.place(context, "pids", _SAME)
        if place is None:
            return {}
        return {
            "pids": place.number("pids.current"),
            "pids_limit": place.number("pids.max"),
            "pids_refused": place.table("pids.events").get("max"),
        }
