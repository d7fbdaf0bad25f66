"""Isolator `linux/nnp`: no program that the container starts gives it privileges (no_new_privs, prctl(2)).

On by default, unlike in Docker: containers here are services and jobs, where a set-user-id program is a way up, not a
tool. Inherited by everything, never taken back.
"""

from __future__ import annotations

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, PassiveIsolator


class NoNewPrivilegesIsolator(PassiveIsolator):
    name = "linux/nnp"

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        security = config.spec.security
        return LaunchInfo(no_new_privileges=security.no_new_privileges and not security.privileged)
