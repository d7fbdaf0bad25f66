"""What the isolators on one cgroup controller have in common: finding the container's cgroup, and wording refusals.

Each of them holds a small table, cgroup version → names and formats of control files, and writes through it, so that
v1, hybrid and v2 hosts take the same way. A limit that this host has no controller for is refused; a request without
one has nothing to weigh against and is left out.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from reconciler.errors import Retryable, Unsupported
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, PassiveIsolator, Support
from reconciler.runtime.kernel import cgroups
from reconciler.runtime.kernel.cgroups import CgroupMap, ControlError

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import ContainerConfig

Files = TypeVar("Files")


@dataclass(frozen=True, slots=True)
class Place(Generic[Files]):
    """A container's cgroup in the hierarchy of one controller, and what the files are called there."""

    directory: str
    files: Files

    def text(self, file: str) -> str:
        """Empty where there is no such file."""
        try:
            return cgroups.read(self.directory, file)
        except ControlError as error:
            if cgroups.gone(error) or error.errno == errno.EOPNOTSUPP:
                return ""
            raise

    def number(self, file: str) -> int | None:
        """None for "max", for v1's huge "unlimited", and where there is no such file."""
        text = self.text(file)
        return None if text in ("", "max") or int(text) >= _UNLIMITED_V1 else int(text)

    def table(self, file: str) -> dict[str, int]:
        """Empty where there is no such file."""
        return cgroups.table(self.text(file))

    def write(self, file: str, value: str | int) -> None:
        cgroups.write(self.directory, file, value)


_UNLIMITED_V1 = (1 << 63) - (1 << 20)  # LONG_MAX, rounded down to whole pages of whatever size


class ControllerIsolator(PassiveIsolator):
    """Puts the spec's amounts in force before the fork, and others later through the very same `update`."""

    def __init__(self, cgroup_map: CgroupMap) -> None:
        self.map = cgroup_map

    def support(self) -> Support:
        """The controllers that v2 has under another's name do not count."""
        lacking = [name for name in sorted(self.controllers) if self.map.hierarchy_of(name) is None]
        if set(lacking) < self.controllers:
            return Support()
        names = " and ".join(f"`{name}`" for name in lacking)
        return Support(Level.NOT_HERE, f"this host has no cgroup controller {names} for containers; enable it")

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        resources = config.spec.resources
        self.update(context, resources.requests, resources.limits)
        return None

    def place(self, context: Context, controller: str, files: Mapping[int, Files]) -> Place[Files] | None:
        """None when this host, or this launcher, has no such controller."""
        hierarchy = self.map.hierarchy_of(controller)
        if hierarchy is None or hierarchy.name not in context.cgroups:
            return None
        return Place(context.cgroups[hierarchy.name], files[hierarchy.version])


def refuse_without(controller: str, field: str, limit: float | str | None) -> None:
    """There is no such controller: fine, unless the spec names a limit."""
    if limit is not None:
        raise Unsupported(
            f"{field}: {limit} cannot be enforced, this host has no cgroup controller `{controller}` for containers; "
            "leave the limit out or enable the controller"
        )


def below_usage(field: str, limit: str, usage: str, kept: str) -> Retryable:
    """Why a limit was not lowered, with both figures."""
    return Retryable(f"{field}: {limit} is below present usage of {usage}; {kept} stays in force and it is tried again")
