"""Metrics in the text format of Prometheus (version 0.0.4): what containers use, how they are, what the loop does.

What is nested in a container counts as its own, so sums are of those with `parent=""`. What cannot be had, or is
unlimited, has no sample. `exposition` is pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reconciler import __version__
from reconciler.agent import report
from reconciler.agent.lock import holder, known_owner
from reconciler.agent.paths import Places
from reconciler.errors import ReconcilerError
from reconciler.runtime.build import sample
from reconciler.runtime.containerizer import OF_DISK, OF_HUGE_PAGES, OF_INTERFACE, OF_MISC, OF_PRESSURE, Usage, of_each

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ANSWER_SECONDS = 5.0

Labels = Mapping[str, str]
Samples = Iterable[tuple[Labels, float | int | None]]


class _Metric(NamedTuple):
    """figure: as `Usage` has it; a name that ends in _total is a counter's."""

    figure: str
    name: str
    help: str


OF_CONTAINER = (
    _Metric("cpu_seconds", "cpu_seconds_total", "CPU time used."),
    _Metric("cpu_limit", "cpu_limit_cpus", "CPUs that it may use at most."),
    _Metric("cpus_allowed", "cpu_allowed_cpus", "CPUs that it may run on."),
    _Metric("cpu_throttled_periods", "cpu_throttled_periods_total", "Periods of 100 ms in which it met its limit."),
    _Metric("cpu_throttled_seconds", "cpu_throttled_seconds_total", "Time for which its limit held it back."),
    _Metric("memory_bytes", "memory_bytes", "Memory used, file cache included."),
    _Metric("memory_working_set_bytes", "memory_working_set_bytes", "Memory without the cache of inactive files."),
    _Metric("memory_peak_bytes", "memory_peak_bytes", "The most memory that was used at a time."),
    _Metric("memory_limit_bytes", "memory_limit_bytes", "Memory that it may use at most."),
    _Metric("memory_oom_kills", "memory_oom_kills_total", "Processes that were killed for want of memory."),
    _Metric("swap_bytes", "swap_bytes", "Swap used."),
    _Metric("memory_swap_limit_bytes", "memory_swap_limit_bytes", "Memory and swap that it may use together."),
    _Metric("pids", "pids", "Processes and threads."),
    _Metric("pids_limit", "pids_limit", "Processes and threads that it may have at most."),
    _Metric("pids_refused", "pids_refused_total", "Forks that its limit refused."),
    _Metric("disk_bytes", "disk_bytes", "Disk space that its sandbox takes, where that is measured."),
    _Metric("disk_limit_bytes", "disk_limit_bytes", "Disk space that its sandbox may take."),
    _Metric("tcp_established", "tcp_established", "TCP connections of its own network."),
    _Metric("tcp_retransmits", "tcp_retransmits_total", "TCP segments sent again."),
    _Metric("tcp_listen_overflows", "tcp_listen_overflows_total", "Connections lost to a full queue."),
    _Metric("tcp_listen_drops", "tcp_listen_drops_total", "Connections lost before they were accepted."),
)


class _Group(NamedTuple):
    """Figures of several things of a kind: their prefix, the label that has the thing's name, and each."""

    prefix: str
    label: str
    metrics: tuple[_Metric, ...]


PARTS = (
    _Group(
        OF_INTERFACE,
        "interface",
        tuple(
            _Metric(f"{way}_{what}", f"network_{way}_{what}_total", f"{what.capitalize()} {way} on an interface.")
            for way in ("received", "sent")
            for what in ("bytes", "packets", "errors", "drops")
        ),
    ),
    _Group(
        OF_DISK,
        "device",
        (
            _Metric("read_bytes", "io_read_bytes_total", "Bytes read from a disk."),
            _Metric("written_bytes", "io_written_bytes_total", "Bytes written to a disk."),
            _Metric("reads", "io_reads_total", "Reads from a disk."),
            _Metric("writes", "io_writes_total", "Writes to a disk."),
            *(
                _Metric(f"{way}_{unit}_limit", f"io_{way}_{unit}_limit", f"{what} that it may {way} per second.")
                for way in ("read", "write")
                for unit, what in (("bps", "Bytes"), ("iops", "Times"))
            ),
        ),
    ),
    _Group(
        OF_PRESSURE,
        "resource",
        (
            _Metric("some_seconds", "pressure_some_seconds_total", "Time for which a process of its waited."),
            _Metric("full_seconds", "pressure_full_seconds_total", "Time for which all of its processes waited."),
        ),
    ),
    _Group(
        OF_HUGE_PAGES,
        "size",
        (
            _Metric("bytes", "hugepages_bytes", "Huge pages used."),
            _Metric("limit_bytes", "hugepages_limit_bytes", "Huge pages that it may use at most."),
            _Metric("refused", "hugepages_refused_total", "Times that its limit refused huge pages."),
        ),
    ),
    _Group(
        OF_MISC,
        "resource",
        (
            _Metric("used", "misc_used", "What it uses of something that the host has few of."),
            _Metric("refused", "misc_refused_total", "Times that it was refused more."),
        ),
    ),
)

PRESENT = {
    "planned": "Actions of the last plan; 0: converged.",
    "held": "Names whose end waits for approval.",
    "waiting": "Starts that are due, but for a dependency.",
    "busy": "Names that are being worked on.",
    "unknown": "Names of which the last observation failed.",
    "drifted": "Names whose limits somebody else changed.",
    "source_known": "1 when the source could be read as a whole, else 0.",
}
"""What `Reconciler.figures` has under `present`."""


def exposition(usages: Mapping[str, Usage], rows: Sequence[report.JsonRow], figures: Mapping[str, Any] | None) -> str:
    """usages: by name; rows: as `ps` has them; figures: those of the agent that runs, None when there is none."""
    families = [*_of_agent(figures), *_of_rows(rows), *_of_usages(usages)]
    return "".join(line for name, text, samples in families for line in _family(f"reconciler_{name}", text, samples))


def _of_agent(figures: Mapping[str, Any] | None) -> Iterator[tuple[str, str, Samples]]:
    yield "agent_up", "1 while an agent runs.", [({"version": __version__}, int(figures is not None))]
    if figures is None:
        return
    for key, name, text in (
        ("passes", "passes_total", "Passes of the loop."),
        ("failed", "pass_failures_total", "Passes that failed; another follows."),
        ("seconds", "pass_seconds_total", "Time that passes took."),
        ("last", "last_pass_timestamp_seconds", "When a pass last succeeded, since the epoch."),
    ):
        yield f"loop_{name}", text, [({}, figures[key])]
    for key, text in PRESENT.items():
        yield f"loop_{key}", text, [({}, figures["present"][key])]
    acted = [({"op": each["op"], "outcome": each["outcome"]}, each["count"]) for each in figures["actions"]]
    yield "loop_actions_total", "Actions, by what became of them: done, failed or superseded.", acted


def _of_rows(rows: Sequence[report.JsonRow]) -> Iterator[tuple[str, str, Samples]]:
    labelled = [(_labels(row["name"]), row) for row in rows]
    status = [({**labels, "type": row["type"], "status": row["status"]}, 1) for labels, row in labelled]
    yield "container_status", "1, with its status as a label.", status
    yield "container_ready", "1 when it serves.", [(labels, int(row["ready"])) for labels, row in labelled]
    restarts = [(labels, row["restarts"]) for labels, row in labelled]
    yield "container_restarts_total", "Starts of its generation after the first.", restarts


def _of_usages(usages: Mapping[str, Usage]) -> Iterator[tuple[str, str, Samples]]:
    for figure, name, text in OF_CONTAINER:
        yield f"container_{name}", text, [(_labels(each), usage.get(figure)) for each, usage in usages.items()]
    for prefix, label, metrics in PARTS:
        things = [
            ({**_labels(each), label: thing}, figures)
            for each, usage in usages.items()
            for thing, figures in of_each(usage, prefix).items()
        ]
        for figure, name, text in metrics:
            yield f"container_{name}", text, [(labels, figures.get(figure)) for labels, figures in things]


def _labels(name: str) -> dict[str, str]:
    return {"container": name, "parent": name.rpartition(".")[0]}


def _family(name: str, text: str, samples: Samples) -> Iterator[str]:
    present = [(labels, value) for labels, value in samples if value is not None]
    if present:
        yield f"# HELP {name} {text}\n# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n"
    for labels, value in present:
        words = ",".join(f'{key}="{_ESCAPED.sub(_escape, word)}"' for key, word in labels.items())
        yield f"{name}{{{words}}} {value!r}\n" if words else f"{name} {value!r}\n"


_ESCAPED = re.compile(r'[\\"\n]')


def _escape(found: re.Match[str]) -> str:
    return "\\n" if found[0] == "\n" else "\\" + found[0]


def look(places: Places, figures: Mapping[str, Any] | None) -> str:
    """Of all containers, at this moment. Blocks."""
    found = sample(places.root, places.runtime_dir, known_owner(places) or "", None)
    return exposition({name: found[name].usage for name in sorted(found)}, report.rows(places), figures)


def ask(places: Places) -> Mapping[str, Any] | None:
    """The figures of the agent that runs; None when none does that has any."""
    if holder(places) is None:
        return None
    from reconciler.agent import control

    try:
        found: Mapping[str, Any] = control.ask(places.control, {"op": "figures"}, timeout=_ANSWER_SECONDS)["figures"]
    except (OSError, ValueError, KeyError, ReconcilerError):
        return None  # a command, or an agent that is just coming or going
    return found
