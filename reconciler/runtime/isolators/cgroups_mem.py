"""Isolator `cgroups/mem`: a hard limit, a protected amount, and who was killed for want of memory.

Limits are written exactly. Lowering one below present usage is not forced: v1's kernel refuses it by itself, on v2
usage is reclaimed and looked at first, because there the write would succeed and kill. `memorySwap` bounds memory and
swap together, as v1's kernel does; v2's bounds swap alone and gets the difference. Kernel:
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Unsupported
from reconciler.runtime.containerizer import Usage
from reconciler.runtime.isolators.controllers import ControllerIsolator, Place, below_usage, refuse_without
from reconciler.runtime.isolators.isolator import Context, Limitation
from reconciler.runtime.kernel import cgroups
from reconciler.runtime.kernel.cgroups import ControlError
from reconciler.runtime.launcher.cgroup_tree import LEAF
from reconciler.spec.quantities import format_size
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec, ResourceAmounts

FIELD = "resources.limits.memory"
FIELD_SWAP = "resources.limits.memorySwap"
WATCH_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class _Memory:
    """File names, and how each version says "no limit" and "nothing protected".

    inactive:     key of memory.stat: file cache that costs nothing to give up
    oom:          files with a count `oom_kill` of processes killed in that very cgroup; on v2 the leaf counts for
                  itself once a nested container has made it a memory cgroup
    met:          files of one number (v1) or with a count `oom`, above 0 once a limit of this very cgroup was met
    together:     file that makes the kernel kill the whole cgroup instead of one process, None where it cannot
    reclaim:      file that gives usage back on demand, where the kernel does not do so before refusing a limit
    swap:         file of the limit on swap, on v1 on memory and swap together, which is never below the one on memory;
                  there only where the host accounts swap
    swap_current: usage that this limit bounds
    """

    limit: str
    unlimited: str
    request: str
    unprotected: str
    current: str
    peak: str
    inactive: str
    oom: tuple[str, ...]
    met: tuple[str, ...]
    together: str | None
    reclaim: str | None
    swap: str
    swap_current: str


_MEMORY: Mapping[int, _Memory] = {
    1: _Memory(
        limit="memory.limit_in_bytes",
        unlimited="-1",
        request="memory.soft_limit_in_bytes",
        unprotected="-1",
        current="memory.usage_in_bytes",
        peak="memory.max_usage_in_bytes",
        inactive="total_inactive_file",
        oom=("memory.oom_control",),
        met=("memory.failcnt", "memory.memsw.failcnt"),
        together=None,
        reclaim=None,
        swap="memory.memsw.limit_in_bytes",
        swap_current="memory.memsw.usage_in_bytes",
    ),
    2: _Memory(
        limit="memory.max",
        unlimited="max",
        request="memory.low",
        unprotected="0",
        current="memory.current",
        peak="memory.peak",
        inactive="inactive_file",
        oom=("memory.events.local", f"{LEAF}/memory.events.local"),
        met=("memory.events.local",),
        together="memory.oom.group",
        reclaim="memory.reclaim",
        swap="memory.swap.max",
        swap_current="memory.swap.current",
    ),
}

_UNACCOUNTED = "cannot be enforced, this host does not account swap in cgroups; leave it out or boot with swapaccount=1"


class MemoryIsolator(ControllerIsolator):
    name = "cgroups/mem"
    controllers = frozenset({"memory"})

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        place = self.place(context, "memory", _MEMORY)
        if place is None:
            refuse_without("memory", FIELD, limits.memory)
            refuse_without("memory", FIELD_SWAP, limits.memory_swap)
            return
        files = place.files
        if files.together is not None:
            for directory in (place.directory, str(Path(place.directory).parent)):
                _end_together(directory, files.together)
        place.write(files.request, files.unprotected if requests.memory is None else requests.memory)
        swap = self._swap(context, limits)
        old = place.number(files.swap)
        raised = old is not None and (swap is None or swap >= old)
        if raised:  # v1 takes a limit on memory only up to that on both
            _limit_swap(place, swap, limits)
        if limits.memory is None:
            place.write(files.limit, files.unlimited)
        else:
            _limit(place, limits.memory)
        if not raised:
            _limit_swap(place, swap, limits)

    def _swap(self, context: Context, limits: ResourceAmounts) -> int | None:
        """What the file `swap` is to say, None for no limit."""
        hierarchy = self.map.hierarchy_of("memory")
        if limits.memory_swap is None or hierarchy is None:
            return None
        return limits.memory_swap - (0 if hierarchy.version == 1 else limits.memory or 0)

    def refuses(self, spec: ContainerSpec) -> list[str]:
        """v1 shows at the root whether swap is accounted; v2 only in the container's own cgroup, at its launch."""
        hierarchy = self.map.hierarchy_of("memory")
        if spec.resources.limits.memory_swap is None or hierarchy is None or hierarchy.version == 2:
            return []
        there = (Path(hierarchy.mount) / _MEMORY[1].swap).exists()
        return [] if there else [f"spec.{FIELD_SWAP}: {_UNACCOUNTED}"]

    def usage(self, context: Context) -> Usage:
        place = self.place(context, "memory", _MEMORY)
        if place is None:
            return {}
        current, inactive = place.number(place.files.current), place.table("memory.stat").get(place.files.inactive, 0)
        return {
            "memory_bytes": current,
            "memory_working_set_bytes": None if current is None else max(0, current - inactive),
            "memory_peak_bytes": place.number(place.files.peak),
            "memory_limit_bytes": place.number(place.files.limit),
            "memory_oom_kills": _killed(place),
            **self._swap_usage(place),
        }

    def _swap_usage(self, place: Place[_Memory]) -> Usage:
        """Swap alone, and its limit as the spec counts it: together with memory."""
        limit = place.number(place.files.swap)
        if place.files is _MEMORY[1]:
            return {"swap_bytes": place.table("memory.stat").get("total_swap"), "memory_swap_limit_bytes": limit}
        bound = place.number(place.files.limit)
        both = None if limit is None or bound is None else bound + limit
        return {"swap_bytes": place.number(place.files.swap_current), "memory_swap_limit_bytes": both}

    def every(self, context: Context) -> float | None:
        """Where there is no limit nobody meets one."""
        place = self.place(context, "memory", _MEMORY)
        return WATCH_SECONDS if place is not None and any(_limits(place)) else None

    def watch(self, context: Context) -> Limitation | None:
        """A process was killed and the container goes on: said for the rest of the run."""
        found = self.limitation(context)
        return None if found is None else replace(found, ends=False)

    def limitation(self, context: Context) -> Limitation | None:
        """Whether the kernel killed processes of this run for want of memory. Which ones cannot be told: only with a
        main process that died of SIGKILL is that how the run ended."""
        place = self.place(context, "memory", _MEMORY)
        if place is None:
            return None
        killed = _killed(place)
        if not killed:
            return None
        processes = "a process" if killed == 1 else f"{killed} processes"
        return Limitation(Reason.OUT_OF_MEMORY, f"the kernel killed {processes} for want of memory: {_bound(place)}")


def _end_together(directory: str, file: str) -> None:
    """v2: of a container whose memory runs out none of its processes is left over. The kernel ends the uppermost cgroup
    that says so below the limit that was met (mem_cgroup_get_oom_group()), and what is nested in a container is to end
    alone: from the first one on the container's own processes say it, which are a memory cgroup then."""
    leaf = Path(directory, LEAF)
    if not leaf.is_dir():
        return
    own = (leaf / file).exists()
    if own:
        cgroups.write(str(leaf), file, "1")
    cgroups.write(directory, file, "0" if own else "1")


def _killed(place: Place[_Memory]) -> int | None:
    """How many of its own processes the kernel has killed for want of memory. None: it does not say."""
    counts = [table["oom_kill"] for file in place.files.oom if "oom_kill" in (table := place.table(file))]
    return sum(counts) if counts else None


def _limit(place: Place[_Memory], limit: int) -> None:
    """Write it unless usage is in the way."""
    files = place.files
    old, current = place.number(files.limit), place.number(files.current) or 0
    if files.reclaim is not None and current > limit:
        with contextlib.suppress(ControlError):  # EAGAIN: less than asked for; ENOENT: before Linux 5.19
            place.write(files.reclaim, current - limit)
        current = place.number(files.current) or 0
        if current > limit:
            raise _refused(limit, current, old)
    try:
        place.write(files.limit, limit)
    except ControlError as error:
        if error.errno != errno.EBUSY:
            raise
        raise _refused(limit, place.number(files.current) or 0, old) from error


def _limit_swap(place: Place[_Memory], value: int | None, limits: ResourceAmounts) -> None:
    """value: as the file has it. Not forced below usage: v1's kernel refuses that by itself, v2's takes it."""
    files = place.files
    if not place.text(files.swap):
        if value is not None:
            raise Unsupported(f"{FIELD_SWAP}: {_UNACCOUNTED}")
        return
    if value is None:
        place.write(files.swap, files.unlimited)
        return
    old, current = place.number(files.swap), place.number(files.swap_current) or 0
    asked = format_size(limits.memory_swap or 0)
    kept = "no limit" if old is None else f"the limit of {format_size(old)}"
    what = "" if value == limits.memory_swap else f" ({format_size(value)} of it swap)"
    refused = below_usage(FIELD_SWAP, asked + what, format_size(current), kept)
    if files.reclaim is not None and current > value:
        raise refused
    try:
        place.write(files.swap, value)
    except ControlError as error:
        if error.errno != errno.EBUSY:
            raise
        raise refused from error


def _refused(limit: int, current: int, old: int | None) -> Exception:
    kept = "no limit" if old is None else f"the limit of {format_size(old)}"
    return below_usage(FIELD, format_size(limit), format_size(current), kept)


def _bound(place: Place[_Memory]) -> str:
    """The limit that was met, its own or of what it is nested in, and the peak there; if none of today's was, the
    nearest."""
    found = list(_limits(place))
    if not found:
        return "no limit of its own, the machine had none left"
    at, limit = next(((at, limit) for at, limit in found if _met(at)), found[0])
    peak = at.number(at.files.peak)
    reached = f"at most {format_size(peak)} of " if peak is not None else ""
    whose = "" if at.directory == place.directory else f" (of {Path(at.directory).name}, around it)"
    return f"{reached}the limit of {format_size(limit)} used{whose}"


def _limits(place: Place[_Memory]) -> Iterator[tuple[Place[_Memory], int]]:
    """Its own and those of what is around it, from the inside out: where, and how much."""
    directory = Path(place.directory)
    while (directory / place.files.limit).exists():
        at = Place(str(directory), place.files)
        limit = at.number(place.files.limit)
        if limit is not None:
            yield at, limit
        directory = directory.parent


def _met(at: Place[_Memory]) -> bool:
    return any(at.table(file).get("oom") or (at.files is _MEMORY[1] and at.number(file)) for file in at.files.met)
