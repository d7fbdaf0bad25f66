"""Limits that somebody changed behind our back, and processes that somebody moved out of their cgroup: what is in
force, compared with what was recorded.

    a look every `PERIOD` ─▶ Containerizer.usage ─▶ drifted(spec, usage) ─▶ differs? wake the loop, which puts it right

Only a figure that the containerizer has is compared; one it lacks says nothing. What is found lasts until the next
look, or until the limits are set again. The comparison is pure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from reconciler.errors import ReconcilerError
from reconciler.loop.values import Observed, Record
from reconciler.runtime.containerizer import OF_DISK, OF_HUGE_PAGES, OF_INTERFACE, Containerizer, Usage, of_each
from reconciler.runtime.kernel import block_devices, cpus
from reconciler.spec.model import ContainerSpec, ResourceAmounts
from reconciler.spec.quantities import format_size, parse_size
from reconciler.spec.tasks import resources

PERIOD = 10.0
# attribute of the limits, field as it is written, figure
_FIGURES = (
    ("cpus", "cpus", "cpu_limit"),
    ("memory", "memory", "memory_limit_bytes"),
    ("memory_swap", "memorySwap", "memory_swap_limit_bytes"),
    ("pids", "pids", "pids_limit"),
    ("cpuset", "cpuset", "cpuset"),
)
_PAGE = 4096


def drifted(spec: ContainerSpec, usage: Usage, disks: Mapping[str, str] = MappingProxyType({})) -> str:
    """What differs from its limits, as a cause; "" for nothing. disks: device, as its limits name it, → MAJ:MIN."""
    found, limits = [], resources(spec).limits
    for attribute, field, figure in _FIGURES:
        wanted = getattr(limits, attribute)
        if figure not in usage or (wanted is None and spec.type == "docker"):
            continue  # an engine cannot take a limit away
        if attribute == "cpuset":
            if wanted is None:
                continue  # on v1 it has a list all the same, its parent's
            wanted = cpus.mask(cpus.parse(wanted))
        present = usage[figure]
        if not _same(wanted, present, field):
            found.append(f"{field} is limited to {_shown(field, present)}, not to {_shown(field, wanted)}")
    if spec.type != "docker":  # an engine gives these at the start or never
        found += [*_of_disks(limits, usage, disks), *_of_huge_pages(limits, usage), *_of_networks(limits, usage)]
    if strays := usage.get("strays"):
        found.append(f"{strays} of its processes moved out of its cgroup")
    if taken := usage.get("network_taken"):
        found.append(f"{taken} of the settings of its networks taken away")
    return f"changed by somebody else: {', '.join(found)}" if found else ""


def _of_disks(limits: ResourceAmounts, usage: Usage, disks: Mapping[str, str]) -> Iterator[str]:
    """On cgroup v1 a nested container may be held to less, as its parent is."""
    if "io_reads" not in usage:
        return
    found = of_each(usage, OF_DISK)
    for device, rates in limits.io.items():
        figures = found.get(disks.get(device, ""), {})
        for name, field in type(rates).model_fields.items():
            wanted, present = getattr(rates, name), figures.get(f"{name}_limit")
            if device in disks and wanted is not None and (present is None or present > wanted):
                is_, not_ = (_shown("memory" if name.endswith("_bps") else name, rate) for rate in (present, wanted))
                yield f"io.{device}.{field.alias} is limited to {is_}, not to {not_}"


def _of_huge_pages(limits: ResourceAmounts, usage: Usage) -> Iterator[str]:
    asked = {format_size(parse_size(page)): limit for page, limit in limits.hugepages.items()}
    for page, figures in sorted(of_each(usage, OF_HUGE_PAGES).items()):
        present, wanted = figures.get("limit_bytes"), asked.get(page)
        if "limit_bytes" in figures and present != wanted:
            is_, not_ = (_shown("memory", value) for value in (present, wanted))
            yield f"hugepages.{page} is limited to {is_}, not to {not_}"


def _of_networks(limits: ResourceAmounts, usage: Usage) -> Iterator[str]:
    for interface, figures in of_each(usage, OF_INTERFACE).items():
        for name in ("ingress", "egress"):
            present, wanted = figures.get(f"{name}_limit"), getattr(limits.network, name, None)
            if f"{name}_limit" in figures and present != wanted:
                is_, not_ = (_shown("memory", value) for value in (present, wanted))
                yield f"network.{name} of {interface} is limited to {is_}, not to {not_}"


def _same(wanted: float | None, present: float | None, field: str) -> bool:
    if wanted is None or present is None:
        return wanted is present
    if field == "cpuset":
        return wanted == present
    if field == "memory":
        return wanted // _PAGE == present // _PAGE  # the kernel counts in pages
    if field == "memorySwap":
        return abs(wanted - present) < 2 * _PAGE  # v2 counts memory and swap apart, each in pages
    return abs(wanted - present) < (0.011 if field == "cpus" else 0.5)  # and CPU time in milliseconds per period


def _shown(field: str, value: float | None) -> str:
    if value is None:
        return "nothing"
    if field == "cpuset":
        return cpus.listed(cpus.of_mask(int(value)))
    return format_size(int(value)) if field.startswith("memory") else f"{value:g}"


class Drift:
    """Looks at what runs, one after the other, and remembers what it found."""

    def __init__(self, containerizer: Containerizer, wake: Callable[[], None]) -> None:
        self._containerizer, self._wake = containerizer, wake
        self._subjects: dict[str, ContainerSpec] = {}
        self._found: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def follow(self, records: Mapping[str, Record], observed: Observed, updated: Iterable[str]) -> dict[str, str]:
        """name → what differs. updated: names whose limits were just set: what was found of them is over."""
        self._subjects = {
            name: records[name].spec for name, seen in observed.containers.items() if seen.running and name in records
        }
        self._last = {name: why for name, why in self._last.items() if name in self._subjects}
        for name in updated:
            self._found.pop(name, None)
        if self._task is None:
            self._task = asyncio.create_task(self._look_for_ever(), name="drift")
        return {name: why for name, why in self._found.items() if name in self._subjects}

    def last(self, name: str) -> str:
        """What was found of it, put right since or not, until a look finds nothing: only that shows an effect."""
        return self._last.get(name, "")

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            for name, spec in list(self._subjects.items()):
                with contextlib.suppress(ReconcilerError, OSError):
                    await self._look(name, spec)

    async def _look(self, name: str, spec: ContainerSpec) -> None:
        usage = await self._containerizer.usage(name)
        limited = resources(spec).limits.io
        disks = await asyncio.to_thread(_numbers, limited) if limited else {}
        if usage is None or self._subjects.get(name) is not spec:
            return  # it ended, or another spec is in force meanwhile
        why = drifted(spec, usage, disks)
        news = why != (self._found.get(name, "") if why else self._last.get(name, ""))
        for known in (self._found, self._last):
            known.pop(name, None)
            if why:
                known[name] = why
        if news:
            self._wake()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _numbers(devices: Iterable[str]) -> dict[str, str]:
    """Of those that are there."""
    found = {}
    for device in devices:
        with contextlib.suppress(OSError, ValueError):
            found[device] = block_devices.disk(device)
    return found
