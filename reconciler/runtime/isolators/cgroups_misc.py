"""Isolator `cgroups/misc`: how much a container uses of what the host has few of, such as the address space ids of
encrypted guests (cgroup-v2.rst, Misc). Statistics only: nothing of a spec limits it.
"""

from __future__ import annotations

from reconciler.runtime.containerizer import OF_MISC, Usage
from reconciler.runtime.isolators.controllers import ControllerIsolator
from reconciler.runtime.isolators.isolator import Context, Level, Support
from reconciler.runtime.kernel import cgroups

_SAME: dict[int, None] = {1: None, 2: None}


class MiscIsolator(ControllerIsolator):
    name = "cgroups/misc"
    controllers = frozenset({"misc"})

    def support(self) -> Support:
        support, hierarchy = super().support(), self.map.hierarchy_of("misc")
        if hierarchy is None or cgroups.table(cgroups.read(hierarchy.mount, "misc.capacity")):
            return support
        return Support(Level.WORKS, "this machine has nothing that it counts")

    def usage(self, context: Context) -> Usage:
        """Per resource, such as sev: those in use, and how often one more was refused."""
        place = self.place(context, "misc", _SAME)
        if place is None:
            return {}
        used = {f"{OF_MISC}{name}.used": count for name, count in place.table("misc.current").items()}
        events = place.table("misc.events").items()
        refused = {f"{OF_MISC}{key.removesuffix('.max')}.refused": n for key, n in events if key.endswith(".max")}
        return used | refused
