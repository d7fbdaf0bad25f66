"""Which isolators a spec needs, and what those that there are refuse of it. Pure, but for the isolators' own looks.

A field whose isolator `--isolation` leaves out, or that does not work on this host, would have no effect: such a
container is not run. What a launcher has no isolator for at all is the business of `fit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING

from reconciler.runtime.isolators import options
from reconciler.runtime.isolators.isolator import Isolator, Level
from reconciler.runtime.isolators.volumes import ISOLATORS as OF_VOLUMES
from reconciler.spec.namespaces import Sharing, effective, explicit

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

_OF_LIMITS: Mapping[str, Sequence[str]] = {
    "cpus": ("cgroups/cpu",),
    "memory": ("cgroups/mem",),
    "memory_swap": ("cgroups/mem",),
    "pids": ("cgroups/pids",),
    "cpuset": ("cgroups/cpuset",),
    "disk": ("disk/du", "disk/xfs"),
    "network": ("network",),
    "io": ("cgroups/io",),
    "hugepages": ("cgroups/hugetlb",),
}
_OF_FIELDS: Mapping[str, Sequence[str]] = {
    "devices": ("linux/devices",),
    "image": ("filesystem/linux",),
    "rootfs": ("filesystem/linux",),
    "rlimits": ("posix/rlimits",),
    "sysctls": ("namespaces/sysctls",),
}


def refusals(spec: ContainerSpec, isolators: Sequence[Isolator], left_out: Set[str]) -> list[str]:
    """left_out: names of those that the launcher has and `--isolation` does not name."""
    enabled = {each.name: each for each in isolators}
    found = []
    for field, names in _needed(spec):
        if why := _lacking(names, enabled, left_out):
            found.append(f"spec.{field} needs the isolator {' or '.join(names)}, {why}")
    if unknown := sorted(spec.isolators.keys() - enabled.keys()):
        there_are = ", ".join(sorted(enabled))
        found += [f"spec.isolators.{name}: no such isolator is enabled; there are: {there_are}" for name in unknown]
    for isolator in isolators:
        found += [*options.faults(spec, isolator), *isolator.refuses(spec)]
    return found


def _lacking(names: Sequence[str], enabled: Mapping[str, Isolator], left_out: Set[str]) -> str:
    """Why none of them carries it out; "" when one does, or `fit` has said so."""
    there = [enabled[name].support() for name in names if name in enabled]
    if there:
        working = any(each.level is not Level.NOT_HERE for each in there)
        return "" if working else f"which does not work here: {there[0].why}"
    return "" if left_out.isdisjoint(names) else "which --isolation leaves out"


def _needed(spec: ContainerSpec) -> Iterator[tuple[str, Sequence[str]]]:
    """(field that is set, the isolators of which one carries it out)."""
    for field, names in _OF_FIELDS.items():
        if getattr(spec, field):
            yield field, names
    for field, names in _OF_LIMITS.items():
        if getattr(spec.resources.limits, field):
            path = type(spec.resources.limits).model_fields[field].alias or field
            yield f"resources.limits.{path}", names
    if spec.resources.requests.io:
        yield "resources.requests.io", ("cgroups/io",)
    for number, volume in enumerate(spec.volumes):
        yield f"volumes[{number}].type", (OF_VOLUMES[volume.type],)
        yield f"volumes[{number}]", ("filesystem/linux",)
    table = effective(spec)
    if spec.ports and table["network"] is not Sharing.PRIVATE:
        yield "ports", ("network/ports",)
    for name in sorted(explicit(spec)):
        if table[name] is Sharing.PRIVATE:
            yield f"namespaces.{name}", ("namespaces/user",) if name == "user" else ("namespaces",)
    security = spec.security
    if security.read_only_rootfs:
        yield "security.readOnlyRootfs", ("filesystem/linux",)
    for part in ("add", "drop"):
        if getattr(security.capabilities, part):
            yield f"security.capabilities.{part}", ("linux/capabilities",)
    if security.seccomp.startswith("/"):
        yield "security.seccomp", ("linux/seccomp",)
