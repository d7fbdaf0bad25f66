"""What native containers use, by the figures of their isolators; an agent is not needed, checkpoints and kernel are.

What is nested in a container counts as its own: its cgroups lie below; where there are none its processes are added.
Standard library only, since `stats` must answer at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.runtime.containerizer import (
    OF_DISK,
    OF_HUGE_PAGES,
    OF_INTERFACE,
    OF_MISC,
    OF_PRESSURE,
    Usage,
    of_each,
    sandbox_place,
)
from reconciler.runtime.isolators.isolator import Context, Isolator
from reconciler.runtime.kernel import proc
from reconciler.runtime.mesos.checkpoint import Checkpoints, Run, Unreadable
from reconciler.states import ContainerState


@dataclass(frozen=True, slots=True)
class Sample:
    """run: tells launches of one name apart; at: seconds of the monotonic clock."""

    run: str
    at: float
    usage: Usage


def context_of(run: Run, others: Iterable[Run], directory: Path) -> Context:
    """others: every run there is, from which those nested in it are taken."""
    inside = run.name + "."
    first = [each.pid for each in others if each.name == run.name or each.name.startswith(inside)]
    pids = tuple(pid for pid in first if pid is not None)
    return Context(run.name, run.cgroups, directory, pids, sandbox=_own_sandbox(run))


def _own_sandbox(run: Run) -> tuple[str, str] | None:
    """None for one that works in its parent's (class debug)."""
    labels = run.name.split(".")[1:]
    if not run.sandbox:
        return None
    top, beneath = sandbox_place(Path(run.sandbox), len(labels))
    return (top, beneath) if beneath == "/".join(f"containers/{label}" for label in labels) else None


def merged(usages: Iterable[Usage]) -> Usage:
    return {figure: value for usage in usages for figure, value in usage.items()}


def sample(
    runtime_dir: Path, names: Collection[str] | None, isolators: Callable[[str], Sequence[Isolator]]
) -> dict[str, Sample]:
    """Of each container that runs, or of those of the names that do. isolators: those of a launcher."""
    checkpoints, boot = Checkpoints(runtime_dir), proc.boot_id()
    runs = {}
    for name in checkpoints.names():
        try:
            run = checkpoints.read(name)
        except Unreadable:
            continue
        if run is not None and _runs(run, boot):
            runs[name] = run
    found = {}
    for name, run in runs.items():
        if names is None or name in names:
            context = context_of(run, runs.values(), checkpoints.directory(name))
            found[name] = Sample(
                run.run, time.monotonic(), merged(isolator.usage(context) for isolator in isolators(run.launcher))
            )
    return found


def _runs(run: Run, boot: str) -> bool:
    if run.state not in (ContainerState.RUNNING, ContainerState.DESTROYING) or run.termination is not None:
        return False
    return run.boot == boot and run.pid is not None and proc.is_running(run.pid, run.start or 0)


def cpu_percent(before: Sample | None, after: Sample) -> float | None:
    """Of one CPU, between two samples of one run; None where that cannot be told."""
    if before is None or before.run != after.run or after.at <= before.at:
        return None
    then, now = before.usage.get("cpu_seconds"), after.usage.get("cpu_seconds")
    if then is None or now is None:
        return None
    return max(0.0, 100 * (now - then) / (after.at - before.at))


def as_json(name: str, sample: Sample | None, percent: float | None) -> Mapping[str, object]:
    """The public form: a stable set of keys, null for what does not run, is unlimited or cannot be had."""
    figures = {} if sample is None else sample.usage
    return {
        "name": name,
        "running": sample is not None,
        "cpuPercent": percent,
        **{key: figures.get(figure) for key, figure in _KEYS.items()},
        **{key: _things(figures, prefix) or None for key, prefix in _GROUPS.items()},
    }


def _things(usage: Usage, prefix: str) -> Mapping[str, object]:
    found = of_each(usage, prefix)
    return {thing: {_json_key(figure): value for figure, value in each.items()} for thing, each in found.items()}


def _json_key(figure: str) -> str:
    first, *more = figure.split("_")
    return first + "".join(map(str.capitalize, more))


_KEYS: Mapping[str, str] = {
    "cpuSeconds": "cpu_seconds",
    "cpuLimit": "cpu_limit",
    "cpusAllowed": "cpus_allowed",
    "throttledPeriods": "cpu_throttled_periods",
    "throttledSeconds": "cpu_throttled_seconds",
    "memoryBytes": "memory_bytes",
    "workingSetBytes": "memory_working_set_bytes",
    "memoryPeakBytes": "memory_peak_bytes",
    "memoryOomKills": "memory_oom_kills",
    "memoryLimitBytes": "memory_limit_bytes",
    "swapBytes": "swap_bytes",
    "memorySwapLimitBytes": "memory_swap_limit_bytes",
    "pids": "pids",
    "pidsLimit": "pids_limit",
    "pidsRefused": "pids_refused",
    "diskBytes": "disk_bytes",
    "diskLimitBytes": "disk_limit_bytes",
    "receivedBytes": "received_bytes",
    "sentBytes": "sent_bytes",
    "tcpEstablished": "tcp_established",
    "tcpRetransmits": "tcp_retransmits",
    "tcpListenOverflows": "tcp_listen_overflows",
    "tcpListenDrops": "tcp_listen_drops",
    "ioReadBytes": "io_read_bytes",
    "ioWrittenBytes": "io_written_bytes",
    "ioReads": "io_reads",
    "ioWrites": "io_writes",
}

_GROUPS: Mapping[str, str] = {
    "interfaces": OF_INTERFACE,
    "disks": OF_DISK,
    "pressure": OF_PRESSURE,
    "hugepages": OF_HUGE_PAGES,
    "misc": OF_MISC,
}
