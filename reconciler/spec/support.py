"""Fields that the model accepts and whose runtime does not exist yet.

Invariant: nothing is silently ignored. Every field that is not carried out, set to anything but its
default, is named here with its path; such a container is not run. Pure.
"""

from __future__ import annotations

from collections.abc import Set

from reconciler.spec.model import ContainerSpec, ResourceAmounts

_NOT_YET = "not supported yet"

_WHOLE_FIELDS = {
    "networks": "networks",
    "ports": "ports",
    "devices": "devices",
    "isolators": "isolators",
}
_BY_ENGINES = frozenset(
    {"networks", "ports", "devices", "isolators", "memory_swap", "cpuset", "disk", "io", "hugepages", "network"}
)
"""Of these, what a Docker Engine carries out already, or refuses in words of its own."""

_NATIVE = frozenset({"isolators", "devices", "networks", "ports"})
"""Of these, what containers of type mesos have already."""

_LIMITS = frozenset({"memory_swap", "network", "disk", "cpuset", "io", "hugepages"})
"""The same of limits."""

_REQUESTS = frozenset({"io"})
"""And of requests."""

_AMOUNTS = {
    "memory_swap": "memorySwap",
    "disk": "disk",
    "io": "io",
    "cpuset": "cpuset",
    "hugepages": "hugepages",
    "network": "network",
}


def unsupported(spec: ContainerSpec) -> tuple[tuple[str, str], ...]:
    """(field, message) for everything the container asks for that cannot be given yet."""
    fields, engine = list[str](), spec.type == "docker"
    defaults = ContainerSpec.model_fields
    for name, path in _WHOLE_FIELDS.items():
        if name in (_BY_ENGINES if engine else _NATIVE):
            continue
        if getattr(spec, name) != defaults[name].get_default(call_default_factory=True):
            fields.append(path)
    fields += _resources("requests", spec.resources.requests, _BY_ENGINES if engine else _REQUESTS)
    fields += _resources("limits", spec.resources.limits, _BY_ENGINES if engine else _LIMITS)
    return tuple((field, f"{field} is {_NOT_YET}") for field in fields)


def _resources(part: str, amounts: ResourceAmounts, done: Set[str]) -> list[str]:
    return [
        f"resources.{part}.{path}" for name, path in _AMOUNTS.items() if name not in done and getattr(amounts, name)
    ]
