"""Isolator `namespaces/sysctls`: kernel parameters of the container's own namespaces; `spec.rules` knows which.

Written by the child once it is in its namespaces, through the host's /proc, which shows each reader its own.
"""

from __future__ import annotations

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, PassiveIsolator


class SysctlsIsolator(PassiveIsolator):
    name = "namespaces/sysctls"

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        if not config.spec.sysctls:
            return None
        return LaunchInfo(steps=({"op": "sysctls", "values": dict(config.spec.sysctls)},))
