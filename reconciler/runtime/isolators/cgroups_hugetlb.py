"""Isolator `cgroups/hugetlb`: how many huge pages of each size a container may have.

Both the pages in use and those set aside by mmap(2) are bounded, where the kernel counts the latter (Linux 5.7): more
than the limit is then ENOMEM at the mmap and no SIGBUS at the first touch. Sizes are those of /sys/kernel/mm/hugepages;
Documentation/admin-guide/cgroup-v1/hugetlb.rst and cgroup-v2.rst (HugeTLB).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Unsupported
from reconciler.runtime.containerizer import OF_HUGE_PAGES, Usage
from reconciler.runtime.isolators.controllers import ControllerIsolator, Place, below_usage, refuse_without
from reconciler.runtime.isolators.isolator import Context, LaunchInfo
from reconciler.runtime.kernel.cgroups import ControlError
from reconciler.spec.quantities import format_size, parse_size

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.spec.model import ContainerSpec, ResourceAmounts

FIELD = "resources.limits.hugepages"
_SIZES = "/sys/kernel/mm/hugepages"


@dataclass(frozen=True, slots=True)
class _Files:
    """Of one page size, after `hugetlb.<size>.`. limits: in the order to lower them, that on use last; refused: the
    file, and its key ("": a lone number)."""

    limits: tuple[str, str]
    unlimited: str
    current: tuple[str, str]
    refused: tuple[str, str]


_FILES: Mapping[int, _Files] = {
    1: _Files(
        limits=("rsvd.limit_in_bytes", "limit_in_bytes"),
        unlimited="-1",
        current=("rsvd.usage_in_bytes", "usage_in_bytes"),
        refused=("failcnt", ""),
    ),
    2: _Files(
        limits=("rsvd.max", "max"),
        unlimited="max",
        current=("rsvd.current", "current"),
        refused=("events", "max"),
    ),
}


@cache
def page_sizes() -> tuple[int, ...]:
    """Bytes, of those this host has."""
    try:
        found = [each.name for each in Path(_SIZES).iterdir()]
    except FileNotFoundError:
        return ()
    return tuple(sorted(int(match[1]) << 10 for name in found if (match := re.fullmatch(r"hugepages-(\d+)kB", name))))


def kernel_name(size: int) -> str:
    """As control files have it (mem_fmt in mm/hugetlb_cgroup.c)."""
    shift, unit = next((pair for pair in ((30, "GB"), (20, "MB")) if size >> pair[0]), (10, "KB"))
    return f"{size >> shift}{unit}"


class HugetlbIsolator(ControllerIsolator):
    name = "cgroups/hugetlb"
    controllers = frozenset({"hugetlb"})

    def refuses(self, spec: ContainerSpec) -> list[str]:
        sizes, there = page_sizes(), ", ".join(map(format_size, page_sizes())) or "none"
        return [
            f"spec.{FIELD}.{size}: this host has no huge pages of that size; there are: {there}"
            for size in spec.resources.limits.hugepages
            if parse_size(size) not in sizes
        ]

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        """A new cgroup has no limits."""
        return super().prepare(config, context) if config.spec.resources.limits.hugepages else None

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        place = self.place(context, "hugetlb", _FILES)
        if place is None:
            refuse_without("hugetlb", FIELD, ", ".join(limits.hugepages) or None)
            return
        wanted, sizes = {parse_size(size): limit for size, limit in limits.hugepages.items()}, page_sizes()
        if unknown := sorted(wanted.keys() - set(sizes)):
            raise Unsupported(f"{FIELD}: this host has no huge pages of {', '.join(map(format_size, unknown))}")
        for size in sizes:
            _limit(place, size, wanted.get(size))

    def usage(self, context: Context) -> Usage:
        place = self.place(context, "hugetlb", _FILES)
        figures: dict[str, int | float | None] = {}
        for size in page_sizes() if place is not None else ():
            assert place is not None
            file, limit = f"hugetlb.{kernel_name(size)}.{{}}".format, place.files.limits[-1]
            if (used := place.number(file(place.files.current[-1]))) is None:
                continue
            refused, key = place.files.refused
            of_size = f"{OF_HUGE_PAGES}{format_size(size)}."
            bound = place.number(file(limit))
            figures[f"{of_size}bytes"] = used
            figures[f"{of_size}limit_bytes"] = None if bound is None or bound >= _UNLIMITED else bound
            figures[f"{of_size}refused"] = place.table(file(refused)).get(key) if key else place.number(file(refused))
        return figures


_UNLIMITED = (1 << 63) - (1 << 31)  # v1's is rounded down to whole huge pages


def _limit(place: Place[_Files], size: int, limit: int | None) -> None:
    prefix, files = f"hugetlb.{kernel_name(size)}.", place.files
    for bound, usage in zip(files.limits, files.current, strict=True):
        old = place.text(prefix + bound)
        if not old and bound != files.limits[-1]:
            continue  # before Linux 5.7
        try:
            place.write(prefix + bound, files.unlimited if limit is None else limit)
        except ControlError as error:
            if error.errno != errno.EBUSY:
                raise
            used, asked = format_size(place.number(prefix + usage) or 0), format_size(limit or 0)
            kept = place.number(prefix + bound)
            kept_text = "no limit" if kept is None or kept >= _UNLIMITED else f"the limit of {format_size(kept)}"
            raise below_usage(f"{FIELD}.{format_size(size)}", asked, used, kept_text) from error
