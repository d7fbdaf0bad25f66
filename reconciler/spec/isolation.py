"""What separates a container from its host: namespaces, privileges, limits per process.

Invariant: defaults deny. What each namespace may be set to depends on the container's place in the
tree; that table is in `namespaces`, not here.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictInt, StrictStr

from reconciler.spec.kinds import Flag, Part, Size, Text, refuse

Share = Literal["private", "host", "parent"]


class Namespaces(Part):
    """Which namespaces a container has to itself; unset: the default of its place in the tree."""

    mount: Share | None = Field(None, description="Always private.")
    pid: Share | None = Field(None, description="private (default) or host; nested: private (default) or parent.")
    network: Share | None = Field(None, description="host (default) or private; nested ones share their parent's.")
    uts: Share | None = Field(
        None, description="host or private; private by default with a hostname or a private network."
    )
    ipc: Share | None = Field(None, description="private (default) or host; nested: private (default) or parent.")
    cgroup: Share | None = Field(None, description="private (default) or host; nested: parent (default) or private.")
    user: Share | None = Field(
        None, description="host (default) or private: root inside is nobody outside; nested ones share it."
    )
    shm_size: Size | None = Field(None, description="Size of /dev/shm, with a unit; needs a private ipc namespace.")


# of capabilities(7), without CAP_
_CAPABILITIES = frozenset(
    {"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "SETFCAP"}
    | {"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"}
    | {"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"}
    | {"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL"}
    | {"AUDIT_READ", "MAC_OVERRIDE", "MAC_ADMIN", "WAKE_ALARM", "BLOCK_SUSPEND", "PERFMON", "BPF"}
    | {"CHECKPOINT_RESTORE", "ALL"}
)


def _capability_names(values: tuple[str, ...]) -> tuple[str, ...]:
    """Sorted and without repetition: the order means nothing, so it must not change the digest."""
    for value in values:
        if not value.isupper() or not value.replace("_", "").isalnum():
            guess = value.upper().removeprefix("CAP_")
            raise refuse(f'"{value}" is not a capability', f'did you mean "{guess}"?')
        if value.startswith("CAP_"):
            raise refuse(f'"{value}" is written without its prefix', f'did you mean "{value[4:]}"?')
        if value not in _CAPABILITIES:
            close = get_close_matches(value, sorted(_CAPABILITIES), 1)
            raise refuse(f'"{value}" is not a capability', f'did you mean "{close[0]}"?' if close else "")
    return tuple(sorted(set(values)))


CapabilityNames = Annotated[tuple[StrictStr, ...], AfterValidator(_capability_names)]


def _seccomp(value: str) -> str:
    if value not in ("default", "unconfined") and not value.startswith("/"):
        raise refuse(f'"{value}" is neither default nor unconfined nor an absolute path')
    return value


class Capabilities(Part):
    """Changes to the default set of capabilities; names without CAP_, or ALL."""

    add: CapabilityNames = Field((), description="Capabilities it has beyond the default set.")
    drop: CapabilityNames = Field((), description="Capabilities of the default set it has not; ALL for all.")


class Security(Part):
    """Privileges; the defaults deny."""

    capabilities: Capabilities = Field(default_factory=Capabilities, description="Capabilities to add and drop.")
    seccomp: Annotated[Text, AfterValidator(_seccomp)] = Field(
        "default", description="default, unconfined, or the path of a profile."
    )
    no_new_privileges: Flag = Field(True, description="Set-user-id programs gain nothing.")
    read_only_rootfs: Flag = Field(False, description="The root file system is read-only.")
    privileged: Flag = Field(False, description="Everything the host's root may do.")


class Rlimit(Part):
    """A limit per process; "unlimited" or a number."""

    soft: Annotated[StrictInt, Field(ge=0)] | Literal["unlimited"] = Field(description="The limit in force.")
    hard: Annotated[StrictInt, Field(ge=0)] | Literal["unlimited"] = Field(description="How far it may be raised.")
