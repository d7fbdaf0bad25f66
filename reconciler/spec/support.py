"""Fields that the model accepts and nothing can carry out.

Invariant: nothing is silently ignored. Every amount that would be, is named here with its path and why; such a
container is not run. What an engine cannot do is told by its containerizer. Pure.
"""

from __future__ import annotations

from reconciler.spec.model import ContainerSpec

_REQUESTS = {
    "memory_swap": ("memorySwap", "the kernel sets no swap aside"),
    "pids": ("pids", "the kernel sets no pids aside"),
    "disk": ("disk", "no file system sets space aside for a directory"),
    "cpuset": ("cpuset", "CPUs are given, not asked for"),
    "hugepages": ("hugepages", "who sets huge pages aside is the host (vm.nr_hugepages)"),
    "network": ("network", "no rate is set aside"),
}
"""Of type mesos: attribute → field, why it cannot be. What is left weighs: cpus, memory, io."""


def unsupported(spec: ContainerSpec) -> tuple[tuple[str, str], ...]:
    """(field, message) for everything the container asks for that cannot be given."""
    if spec.type == "docker":
        return ()
    asked = [found for name, found in _REQUESTS.items() if getattr(spec.resources.requests, name)]
    return tuple(
        (f"resources.requests.{field}", f"resources.requests.{field}: {why}; see resources.limits.{field}")
        for field, why in asked
    )
