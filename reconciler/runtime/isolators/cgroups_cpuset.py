"""Isolator `cgroups/cpuset`: the CPUs that a container may run on.

A nested container has some of its parent's. On v2 the kernel sees to that, and an empty file means the parent's
(cgroup-v2.rst). On v1 (cpusets.rst) each cgroup has a list of its own, begun as its parent's by the tree, and the
kernel refuses to take from a parent what a child has: those below with the same list are taken along.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import Usage
from reconciler.runtime.isolators.controllers import ControllerIsolator, Place, refuse_without
from reconciler.runtime.isolators.isolator import Context, LaunchInfo
from reconciler.runtime.kernel import cgroups, cpus
from reconciler.runtime.kernel.cgroups import ControlError

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.spec.model import ContainerSpec, ResourceAmounts

FIELD = "resources.limits.cpuset"
ASKED = "cpuset.cpus"


@dataclass(frozen=True, slots=True)
class _Cpuset:
    """effective: file of the CPUs it really has; inherits: an empty list means the parent's."""

    effective: str
    inherits: bool


_FILES = {1: _Cpuset(ASKED, inherits=False), 2: _Cpuset("cpuset.cpus.effective", inherits=True)}


class CpusetIsolator(ControllerIsolator):
    name = "cgroups/cpuset"
    controllers = frozenset({"cpuset"})

    def refuses(self, spec: ContainerSpec) -> list[str]:
        asked = spec.resources.limits.cpuset
        if asked is None:
            return []
        wanted, online = cpus.parse(asked), cpus.online()
        if wanted and wanted <= online:
            return []
        why = "it has CPUs that are not there" if wanted else "it names no CPU"
        return [f"spec.{FIELD}: {asked}: {why}; online are {cpus.listed(online)}"]

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        """A new cgroup has its parent's already."""
        if config.spec.resources.limits.cpuset is None:
            return None
        return super().prepare(config, context)

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        place = self.place(context, "cpuset", _FILES)
        if place is None:
            refuse_without("cpuset", FIELD, limits.cpuset)
            return
        above = _cpus(str(Path(place.directory).parent), place.files.effective)
        wanted = above if limits.cpuset is None else cpus.parse(limits.cpuset)
        if not wanted <= above:
            raise Retryable(
                f"{FIELD}: {limits.cpuset} is more than the CPUs {cpus.listed(above)} that it is nested in; the old "
                "ones stay and it is tried again"
            )
        if not place.files.inherits:
            _narrow_or_widen(place.directory, wanted)
        elif limits.cpuset is None:
            _let_go(place, above)
        else:
            place.write(ASKED, cpus.listed(wanted))

    def usage(self, context: Context) -> Usage:
        """cpuset: its own list as a bit mask; cpus_allowed: how many CPUs it really has."""
        place = self.place(context, "cpuset", _FILES)
        if place is None:
            return {}
        return {
            "cpuset": cpus.mask(cpus.parse(place.text(ASKED))) or None,
            "cpus_allowed": len(cpus.parse(place.text(place.files.effective))) or None,
        }


def _cpus(directory: str, file: str = ASKED) -> frozenset[int]:
    return cpus.parse(cgroups.read(directory, file))


def _let_go(place: Place[_Cpuset], above: frozenset[int]) -> None:
    """v2. Linux 6.1 takes no empty list back while there are processes (ENOSPC, validate_change() of cpuset.c): it is
    given what its parent has now, and keeps that when the parent gets more."""
    try:
        place.write(ASKED, "\n")  # an empty write would be none
    except ControlError as error:
        if error.errno != errno.ENOSPC:
            raise
        place.write(ASKED, cpus.listed(above))


def _narrow_or_widen(directory: str, wanted: frozenset[int]) -> None:
    """v1: the cgroup and those below that have the same list. First all is looked at, then parents get more before
    their children, and less after them."""
    old = _cpus(directory)
    if old == wanted:
        return
    following, other = list[str](), list[str]()
    for child in _children(directory, old):
        (following if (its := _cpus(child)) == old else other).append(child)
        if its != old and not its <= wanted:
            raise _in_the_way(wanted, child, its)
    try:
        for each in (directory, *following):
            cgroups.write(each, ASKED, cpus.listed(old | wanted))
        for each in (*reversed(following), directory):
            cgroups.write(each, ASKED, cpus.listed(wanted))
    except ControlError as error:
        if error.errno not in (errno.EBUSY, errno.EACCES, errno.EINVAL):
            raise
        raise Retryable(f"{FIELD}: the kernel refuses {cpus.listed(wanted)} ({error}); it is tried again") from error


def _children(directory: str, old: frozenset[int]) -> Iterator[str]:
    """Those below, parents first; of what has a list of its own not what is below it."""
    with os.scandir(directory) as entries:
        found = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    for child in found:
        yield child
        if _cpus(child) == old:
            yield from _children(child, old)


def _in_the_way(wanted: frozenset[int], child: str, its: frozenset[int]) -> Retryable:
    return Retryable(
        f"{FIELD}: {cpus.listed(wanted)} lacks CPUs that the nested {Path(child).name} has, {cpus.listed(its)}; "
        "the old ones stay and it is tried again"
    )
