"""Does a spec fit a launcher? Pure.

What the spec names and the launcher cannot give refuses the container (Blocked, reason NotOnThisLauncher);
what it leaves open falls back to shared with the host, and its status says so.
"""

from __future__ import annotations

import os
from collections.abc import Set
from typing import TYPE_CHECKING

from reconciler.errors import Terminal
from reconciler.runtime.isolators.rlimits import amount
from reconciler.runtime.kernel import rlimits
from reconciler.runtime.provisioner import references
from reconciler.spec.namespaces import Sharing, effective, explicit

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

_LIMITS = ("cpus", "memory", "pids", "cpuset", "io", "hugepages")


def refusals(spec: ContainerSpec, launcher: str, gives: Set[str], *, limits: bool) -> list[str]:
    """One sentence per thing that is asked for and cannot be had."""
    table, named = effective(spec), explicit(spec)
    found = []
    for name in sorted(named):
        if table[name] is Sharing.PRIVATE and name not in gives:
            root = "" if os.geteuid() == 0 else "namespaces need root; "
            found.append(_sentence(f"namespaces.{name}: private", launcher, f"{root}leave it out to share the host's"))
    if not limits:
        for name in _LIMITS:
            if getattr(spec.resources.limits, name):
                found.append(_sentence(f"resources.limits.{name}", launcher, "it has no cgroups"))
        if spec.resources.requests.io:
            found.append(_sentence("resources.requests.io", launcher, "it has no cgroups"))
    if "mount" not in gives:
        for name in ("image", "rootfs"):
            if getattr(spec, name) is not None:
                found.append(_sentence(name, launcher, "it has no mount namespaces"))
        if spec.security.read_only_rootfs:
            found.append(_sentence("security.readOnlyRootfs", launcher, "it has no mount namespaces"))
        found += _volumes(spec, launcher)
        if spec.sysctls:
            found.append(_sentence("sysctls", launcher, "it has no namespaces"))
    for name, rlimit in spec.rlimits.items():
        if why := rlimits.out_of_reach(name, amount(rlimit.hard)):
            found.append(_sentence(f"rlimits.{name}.hard", launcher, why))
    found += _privileges(spec, launcher, namespaces=bool(gives))
    if spec.user is not None and os.geteuid() != 0:
        found.append(_sentence("user", launcher, "only root can become another user"))
    return found


def images(spec: ContainerSpec, backend: str | None) -> list[str]:
    """backend: of images, the one asked for."""
    found = []
    for number, volume in enumerate(spec.volumes if backend == "bind" else ()):
        if volume.type == "image" and not volume.read_only:
            why = "the backend bind has images read-only; leave it out, or use another --image-provisioner-backend"
            found.append(f"spec.volumes[{number}].readOnly: false cannot be had ({why})")
    for field, image in spec.images:
        try:
            references.parse(image.reference, f"spec.{field}")
        except Terminal as error:
            found.append(error.message)
    return found


def _volumes(spec: ContainerSpec, launcher: str) -> list[str]:
    """A link in the sandbox is all that can be had without mounts."""
    found = []
    for number, volume in enumerate(spec.volumes):
        field, why = f"volumes[{number}]", "it has no mount namespaces, only links in the sandbox"
        if volume.type != "sandboxPath":
            found.append(_sentence(f"{field}.type: {volume.type}", launcher, why))
        else:
            if volume.target.startswith("/"):
                found.append(_sentence(f"{field}.target: {volume.target}", launcher, why))
            if volume.read_only:
                found.append(_sentence(f"{field}.readOnly", launcher, why))
    return found


def _privileges(spec: ContainerSpec, launcher: str, *, namespaces: bool) -> list[str]:
    security, found = spec.security, []
    if not namespaces:
        for name in ("add", "drop"):
            if getattr(security.capabilities, name):
                why = "it leaves capabilities as they are"
                found.append(_sentence(f"security.capabilities.{name}", launcher, why))
        if security.privileged and os.geteuid() != 0:
            found.append(_sentence("security.privileged", launcher, "an ordinary user has no privileges to give"))
    if os.geteuid() != 0 and not security.no_new_privileges and security.seccomp != "unconfined":
        why = "without root a filter needs it; add seccomp: unconfined"
        found.append(_sentence("security.noNewPrivileges: false", launcher, why))
    return found


def _sentence(field: str, launcher: str, why: str) -> str:
    return f"spec.{field} cannot be had with the {launcher} launcher ({why})"


def shared_notice(spec: ContainerSpec, launcher: str, gives: Set[str]) -> str:
    """What would be private with another launcher and is shared with this one; empty when nothing is."""
    named = explicit(spec)
    shared = [
        name
        for name, sharing in effective(spec).items()
        if sharing is Sharing.PRIVATE and name not in gives and name not in named
    ]
    return f"{launcher} launcher: shares the host's {', '.join(shared)}" if shared else ""
