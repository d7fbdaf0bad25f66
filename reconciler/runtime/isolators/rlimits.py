"""Isolator `posix/rlimits`: limits per process, for the payload and all that it starts (setrlimit(2))."""

from __future__ import annotations

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, PassiveIsolator, Support
from reconciler.runtime.kernel import rlimits


def amount(value: int | str) -> int | None:
    """None: unlimited."""
    return value if isinstance(value, int) else None


class RlimitsIsolator(PassiveIsolator):
    name = "posix/rlimits"

    def support(self) -> Support:
        if all(not rlimits.out_of_reach(name, None) for name in rlimits.NUMBERS):
            return Support()
        return Support(Level.PARTLY, "hard limits can only be lowered: to raise one needs CAP_SYS_RESOURCE")

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        if not config.spec.rlimits:
            return None
        limits = {name: [amount(each.soft), amount(each.hard)] for name, each in config.spec.rlimits.items()}
        return LaunchInfo(payload=({"op": "rlimits", "limits": limits},))
