"""Isolator `namespaces`: the namespace table, turned into what to clone, what to enter and what to set up inside.

private            cloned with the child (cgroup: unshared once the child sits in its final cgroup,
                   because its root is the caller's cgroup at that moment, cgroup_namespaces(7))
parent             entered through the pidfd of the parent's first process (pid: by the keeper, before the clone)
host               left as it is: a top-level child starts in the keeper's, which are the host's

What the parent shares with the host is not entered: a child in a user namespace may not, and is there already. Nor may
it use the pidfd of a parent whose memory is not its to read: the keeper opens the namespaces for it. The user namespace
itself is the business of `namespaces/user`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.errors import Unsupported
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, PassiveIsolator, Support
from reconciler.runtime.kernel.syscalls import NAMESPACES
from reconciler.runtime.launcher.hostside import OPENED
from reconciler.spec.namespaces import Sharing, effective

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

_CLONED = ("mount", "pid", "network", "uts", "ipc")
_ENTERED_INSIDE = ("cgroup", "ipc", "uts", "network")


def mapped(config: ContainerConfig, context: Context) -> bool:
    """Whether it lives in a user namespace of its own or of its parent's, with ids that mean nothing to the host."""
    return not of_the_host("user", config, context)


def entered(config: ContainerConfig, context: Context) -> list[str]:
    """Those of its parent that the child enters by itself."""
    table = effective(config.spec)
    return [name for name in _ENTERED_INSIDE if table[name] is Sharing.PARENT and name in context.inherited]


def of_the_host(kind: str, config: ContainerConfig, context: Context) -> bool:
    """Whether that namespace of the container is the host's, be it by way of its parent."""
    sharing = effective(config.spec)[kind]
    return sharing is Sharing.HOST or (sharing is Sharing.PARENT and kind not in context.inherited)


class NamespacesIsolator(PassiveIsolator):
    name = "namespaces"

    def __init__(self, left_out: Collection[str] = ()) -> None:
        """left_out: of the isolators that others ask for, those that `--isolation` does without."""
        self._left_out = frozenset(left_out)

    def support(self) -> Support:
        lacking = [name for name, (_, file) in NAMESPACES.items() if not Path(f"/proc/self/ns/{file}").exists()]
        return (
            Support(Level.PARTLY, f"this kernel has no namespaces for {', '.join(lacking)}") if lacking else Support()
        )

    def refuses(self, spec: ContainerSpec) -> list[str]:
        field = "networks" if spec.networks else "ports" if spec.ports else ""
        private = effective(spec)["network"] is Sharing.PRIVATE
        if field and private and spec.type == "mesos" and "network" in self._left_out:
            return [f"spec.{field}: --isolation leaves out network"]
        return []

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        spec = config.spec
        if mapped(config, context) and "namespaces/user" in self._left_out:
            raise Unsupported(f"{spec.name}: namespaces.user: private: --isolation leaves out namespaces/user")
        table = effective(spec)
        clone = frozenset(name for name in _CLONED if table[name] is Sharing.PRIVATE)
        join = frozenset(name for name, sharing in table.items() if sharing is Sharing.PARENT)
        steps: list[dict[str, Any]] = []
        inside = entered(config, context)
        if mapped(config, context):
            steps += [{"op": "enter", "of": OPENED + name, "namespaces": [name]} for name in inside]
        elif inside:
            steps.append({"op": "enter", "of": "parent", "namespaces": inside})
        if table["cgroup"] is Sharing.PRIVATE:
            steps.append({"op": "unshare", "namespaces": ["cgroup"]})
        if "network" in clone:
            steps.append({"op": "loopback"})
        if "uts" in clone:
            steps.append({"op": "hostname", "name": spec.hostname or spec.name.rpartition(".")[2]})
        return LaunchInfo(namespaces=clone, join=join, steps=tuple(steps))
