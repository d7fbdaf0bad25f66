"""Isolator `cgroups/cpu`: requests weigh, limits cap, per period of 100 ms (sched-design-CFS, sched-bwc, cgroup-v2).

A request is 1024 shares per CPU, as in Mesos; on v2 the weight that runc and crun give for as many shares, by
which the default of one scale meets the default of the other. A parent's cap binds what is nested in it.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import Usage
from reconciler.runtime.isolators.controllers import ControllerIsolator, Place, refuse_without
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.kernel.cgroups import ControlError

if TYPE_CHECKING:
    from reconciler.spec.model import ResourceAmounts

PERIOD = 100_000  # microseconds
MIN_QUOTA = 1_000
SHARES_PER_CPU, MIN_SHARES, MAX_SHARES = 1024, 2, 262_144


def shares(cpus: float | None) -> int:
    """v1's cpu.shares; the kernel's default without a request."""
    if cpus is None:
        return SHARES_PER_CPU
    return min(MAX_SHARES, max(MIN_SHARES, round(cpus * SHARES_PER_CPU)))


def weight(cpus: float | None) -> int:
    """v2's cpu.weight, 1 to 10000, 100 for one CPU."""
    amount = shares(cpus)
    if amount <= MIN_SHARES:
        return 1
    if amount >= MAX_SHARES:
        return 10_000
    log = math.log2(amount)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def quota(cpus: float | None) -> int | None:
    """Microseconds per period; None: unlimited."""
    return None if cpus is None else max(MIN_QUOTA, round(cpus * PERIOD))


Writes = tuple[tuple[str, str], ...]


def _cap_v1(cpus: float | None) -> Writes:
    micros = quota(cpus)
    return ("cpu.cfs_period_us", str(PERIOD)), ("cpu.cfs_quota_us", str(-1 if micros is None else micros))


def _cap_v2(cpus: float | None) -> Writes:
    micros = quota(cpus)
    return (("cpu.max", f"{'max' if micros is None else micros} {PERIOD}"),)


@dataclass(frozen=True, slots=True)
class _Cpu:
    """weigh, cap: CPUs → what to write where; capped: files that hold quota and period; throttled: key of cpu.stat, and
    its unit in seconds."""

    weigh: Callable[[float | None], Writes]
    cap: Callable[[float | None], Writes]
    capped: tuple[str, ...]
    throttled: tuple[str, float]


@dataclass(frozen=True, slots=True)
class _Used:
    """file and key (empty: a lone number) of the CPU time used, and its unit in seconds."""

    file: str
    key: str
    unit: float


_CPU: Mapping[int, _Cpu] = {
    1: _Cpu(
        weigh=lambda cpus: (("cpu.shares", str(shares(cpus))),),
        cap=_cap_v1,
        capped=("cpu.cfs_quota_us", "cpu.cfs_period_us"),
        throttled=("throttled_time", 1e-9),
    ),
    2: _Cpu(
        weigh=lambda cpus: (("cpu.weight", str(weight(cpus))),),
        cap=_cap_v2,
        capped=("cpu.max",),
        throttled=("throttled_usec", 1e-6),
    ),
}
_USED: Mapping[int, _Used] = {1: _Used("cpuacct.usage", "", 1e-9), 2: _Used("cpu.stat", "usage_usec", 1e-6)}


class CpuIsolator(ControllerIsolator):
    name = "cgroups/cpu"
    controllers = frozenset({"cpu", "cpuacct"})

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        place = self.place(context, "cpu", _CPU)
        if place is None:
            refuse_without("cpu", "resources.limits.cpus", limits.cpus)
            return
        for file, value in place.files.weigh(requests.cpus):
            place.write(file, value)
        try:
            for file, value in place.files.cap(limits.cpus):
                place.write(file, value)
        except ControlError as error:
            if error.errno != errno.EINVAL:
                raise
            wanted = "unlimited" if limits.cpus is None else f"{limits.cpus:g}"
            raise Retryable(
                f"resources.limits.cpus: the kernel refuses {wanted}, a nested container would have more than the one "
                f"it is nested in ({error}); the old limit stays and it is tried again"
            ) from error

    def usage(self, context: Context) -> Usage:
        figures: dict[str, int | float | None] = {}
        if (cpu := self.place(context, "cpu", _CPU)) is not None:
            stat, (key, unit) = cpu.table("cpu.stat"), cpu.files.throttled
            throttled = stat.get(key)
            figures["cpu_limit"] = _cap(cpu)
            figures["cpu_throttled_periods"] = stat.get("nr_throttled")
            figures["cpu_throttled_seconds"] = None if throttled is None else throttled * unit
        if (used := self.place(context, "cpuacct", _USED)) is not None:
            figures["cpu_seconds"] = _seconds(used)
        return figures


def _cap(place: Place[_Cpu]) -> float | None:
    """CPUs; None: unlimited, which the files call -1 or max."""
    words = " ".join(place.text(file) for file in place.files.capped).split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdecimal() else None


def _seconds(place: Place[_Used]) -> float | None:
    files = place.files
    count = place.table(files.file).get(files.key) if files.key else place.number(files.file)
    return None if count is None else count * files.unit
