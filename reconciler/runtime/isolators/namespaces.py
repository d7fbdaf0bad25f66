"""Isolator `namespaces`: the namespace table, turned into what to clone, what to enter and what to set up inside.

private            cloned with the child (cgroup: unshared once the child sits in its final cgroup,
                   because its root is the caller's cgroup at that moment, cgroup_namespaces(7))
parent             entered through the pidfd of the parent's first process (pid: by the keeper, before the clone)
host               left as it is: a top-level child starts in the keeper's, which are the host's
"""

from __future__ import annotations

from typing import Any

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, PassiveIsolator
from reconciler.spec.namespaces import Sharing, effective

_CLONED = ("mount", "pid", "network", "uts", "ipc")
_ENTERED_INSIDE = ("cgroup", "ipc", "uts", "network")


class NamespacesIsolator(PassiveIsolator):
    name = "namespaces"

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        spec = config.spec
        table = effective(spec)
        clone = frozenset(name for name in _CLONED if table[name] is Sharing.PRIVATE)
        join = frozenset(name for name, sharing in table.items() if sharing is Sharing.PARENT)
        steps: list[dict[str, Any]] = []
        if inside := [name for name in _ENTERED_INSIDE if name in join]:
            steps.append({"op": "enter", "of": "parent", "namespaces": inside})
        if table["cgroup"] is Sharing.PRIVATE:
            steps.append({"op": "unshare", "namespaces": ["cgroup"]})
        if "network" in clone:
            steps.append({"op": "loopback"})
        if "uts" in clone:
            steps.append({"op": "hostname", "name": spec.hostname or spec.name.rpartition(".")[2]})
        return LaunchInfo(namespaces=clone, join=join, steps=tuple(steps))
