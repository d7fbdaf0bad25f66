"""Isolator `cgroups/pressure`: how long a container had to wait for CPU, memory and disks.

`some`: at least one of its processes waited; `full`: all of them at once, so that nothing got done. In percent of the
last 10, 60 and 300 seconds, and in seconds since its start (Documentation/accounting/psi.rst). Statistics only. The
files are those of the cgroup2 mount, on hybrid hosts too; without one, or without PSI, there are none.
"""

from __future__ import annotations

import errno
from pathlib import Path

from reconciler.runtime.containerizer import OF_PRESSURE, Usage
from reconciler.runtime.isolators.controllers import Place
from reconciler.runtime.isolators.isolator import Context, Level, PassiveIsolator, Support
from reconciler.runtime.kernel import cgroups
from reconciler.runtime.kernel.cgroups import UNIFIED, CgroupMap, ControlError

RESOURCES = ("cpu", "memory", "io")


class PressureIsolator(PassiveIsolator):
    name = "cgroups/pressure"

    def __init__(self, cgroup_map: CgroupMap) -> None:
        self._map = cgroup_map

    def support(self) -> Support:
        if self._map.unified is None:
            return Support(Level.NOT_HERE, "no cgroup2 is mounted; mount one, beside v1 too")
        if not Path("/proc/pressure").exists():
            return Support(Level.NOT_HERE, "this kernel has no pressure stall information; build it with CONFIG_PSI")
        try:
            cgroups.read("/proc/pressure", "cpu")
        except ControlError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return Support(Level.NOT_HERE, "pressure stall information is switched off; boot with psi=1")
        return Support()

    def usage(self, context: Context) -> Usage:
        """pressure.cpu.some_avg10 and so on in percent, pressure.cpu.some_seconds."""
        if UNIFIED not in context.cgroups:
            return {}
        place, figures = Place(context.cgroups[UNIFIED], None), dict[str, int | float | None]()
        for resource in RESOURCES:
            for line in place.text(f"{resource}.pressure").splitlines():
                kind, *words = line.split()
                numbers = dict(word.split("=", 1) for word in words)
                seconds = int(numbers.pop("total")) / 1e6
                averages = {f"{kind}_{span}": float(value) for span, value in numbers.items()}
                for what, figure in {**averages, f"{kind}_seconds": seconds}.items():
                    figures[f"{OF_PRESSURE}{resource}.{what}"] = figure
        return figures
