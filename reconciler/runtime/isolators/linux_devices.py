"""Isolator `linux/devices`: device nodes of the host in the container, and the leave to use them.

With a root file system of its own a container gets a node made anew, alone in memory, with the mode and owner of the
host's: what it does to its node does not reach the host's. In a mapped user namespace, where none can be made, it is
the host's node itself, whose owner is nobody there: its mode must let others use it. Without a root file system the
node is where it is on the host.

What may be done with it is the business of `cgroups/devices`, which asks for the `rules`; a nested container is
restricted by all that encloses it too. After Mesos's isolator of that name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.cgroups_devices import Rule, unavailable
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, Mount, PassiveIsolator, Support
from reconciler.runtime.isolators.namespaces import mapped
from reconciler.runtime.kernel import cgroups
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.attachments import Device
    from reconciler.spec.model import ContainerSpec


@dataclass(frozen=True, slots=True)
class Node:
    """A device of the host, links followed. target: where the container has it; None: where the host does."""

    path: str
    target: str | None
    status: os.stat_result
    access: str

    @classmethod
    def found(cls, path: str, target: str | None, access: str) -> Node:
        """Raises OSError, and ValueError for what is no device."""
        real = os.path.realpath(path)
        status = Path(real).stat()
        if not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode):
            raise ValueError(f"{path} is no device")
        return cls(real, target, status, access)

    def rule(self) -> Rule:
        number = self.status.st_rdev
        return Rule(self._kind, os.major(number), os.minor(number), self.access)

    @property
    def _kind(self) -> str:
        return "c" if stat.S_ISCHR(self.status.st_mode) else "b"

    def mount(self, what: str, *, anew: bool) -> Mount:
        """anew: it can be made."""
        if not anew:
            return Mount(what, ({"op": "take", "source": self.path, "as": what, "resolved": True},), file=True)
        number, status = self.status.st_rdev, self.status
        step = {"op": "device", "as": what, "path": self.path, "mode": status.st_mode, "uid": status.st_uid}
        step |= {"gid": status.st_gid, "major": os.major(number), "minor": os.minor(number)}
        return Mount(what, (step,), file=True)


class LinuxDevicesIsolator(PassiveIsolator):
    name = "linux/devices"

    def refuses(self, spec: ContainerSpec) -> list[str]:
        found = []
        for number, device in enumerate(spec.devices):
            try:
                Node.found(device.path, None, device.permissions)
            except ValueError as error:
                found.append(f"spec.devices[{number}].path: {error}")
            except OSError:
                continue  # it may come yet
        return found

    def foresee(self, spec: ContainerSpec) -> None:
        for number, device in enumerate(spec.devices):
            _node(f"{spec.name}: spec.devices[{number}].path", device, None)

    def support(self) -> Support:
        why = unavailable(cgroups.read_map())
        return Support(Level.PARTLY, f"nodes can be had, but nothing restricts their use: {why}") if why else Support()

    def rules(self, config: ContainerConfig, context: Context) -> tuple[Rule, ...]:
        return tuple(node.rule() for node in _nodes(config))

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        return LaunchInfo(nodes=mounts(config, context, list(_nodes(config)), "device"))


def mounts(config: ContainerConfig, context: Context, nodes: list[Node], label: str) -> dict[str, Mount]:
    """By target. label: begins the names of their descriptors."""
    anew = not mapped(config, context)
    return {
        node.target or node.path: node.mount(f"{label}-{number}", anew=anew)
        for number, node in enumerate(nodes)
        if node.target is not None or config.rootfs is not None
    }


def _nodes(config: ContainerConfig) -> Iterator[Node]:
    for number, device in enumerate(config.spec.devices):
        where = f"{config.name}: spec.devices[{number}].path"
        target = device.target or (device.path if config.rootfs is not None else None)
        if config.rootfs is None and target == device.path:
            target = None
        yield _node(where, device, target)


def _node(where: str, device: Device, target: str | None) -> Node:
    """Raises Terminal for what is no device, Retryable for what may come yet."""
    try:
        return Node.found(device.path, target, device.permissions)
    except ValueError as error:
        raise Terminal(f"{where}: {error}", Reason.INVALID_SPEC) from None
    except OSError as error:
        raise Retryable(f"{where}: {device.path}: {error.strerror}", Reason.LAUNCH_FAILED) from error
