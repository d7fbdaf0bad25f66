"""Isolator `linux/capabilities`: the most that the processes of a container can ever be allowed to do.

Docker's default set and its reading of `add` and `drop` (daemon: pkg/oci/caps). ALL is every one; of what is both added
to and dropped from the default set the addition wins, of what is dropped from ALL the drop. Root holds its set; another
user holds nothing, and a set-user-id program gives it no more than the set, if noNewPrivileges lets it at all.
`privileged` restricts nothing.
"""

from __future__ import annotations

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, PassiveIsolator
from reconciler.runtime.kernel import capabilities
from reconciler.spec.isolation import Security

ALL = "ALL"
EVERY = frozenset(capabilities.NAMES)
DEFAULT = frozenset(
    {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"}
    | {"AUDIT_WRITE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
)


class CapabilitiesIsolator(PassiveIsolator):
    name = "linux/capabilities"

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        security = config.spec.security
        return None if security.privileged else LaunchInfo(capabilities=granted(security))


def granted(security: Security) -> frozenset[str]:
    """Pure. What this host lacks of it is nobody's to give, and left out at the launch."""
    add, drop = frozenset(security.capabilities.add), frozenset(security.capabilities.drop)
    if security.privileged:
        return EVERY
    if ALL in add:
        return EVERY - drop
    return (frozenset() if ALL in drop else DEFAULT - drop) | add


def present(security: Security) -> frozenset[str]:
    """Where nothing is restricted: what this very process holds."""
    return capabilities.names(capabilities.permitted())
