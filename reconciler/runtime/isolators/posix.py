"""Isolators `posix/cpu` and `posix/mem`: what a container's processes use where no cgroup counts it; no limits.

The processes are those below the container's first one, and below the first ones of what is nested in it, as in Mesos's
isolators of these names. CPU time of a process that has ended is its parent's (proc_pid_stat(5), cutime); shared pages
count once for each process that has them.
"""

from __future__ import annotations

from reconciler.runtime.containerizer import Usage
from reconciler.runtime.isolators.isolator import Context, PassiveIsolator
from reconciler.runtime.kernel import proc

_READINGS = 5


class PosixCpuIsolator(PassiveIsolator):
    name = "posix/cpu"

    def usage(self, context: Context) -> Usage:
        found = _processes(context)
        return {
            "cpu_seconds": sum(each.cpu_seconds for each in found),
            "cpu_limit": None,
            "cpu_throttled_periods": None,
            "cpu_throttled_seconds": None,
            "pids": sum(each.threads for each in found),
            "pids_limit": None,
            "pids_refused": None,
        }


class PosixMemoryIsolator(PassiveIsolator):
    name = "posix/mem"

    def usage(self, context: Context) -> Usage:
        return {
            "memory_bytes": sum(each.resident for each in _processes(context)),
            "memory_working_set_bytes": None,
            "memory_peak_bytes": None,
            "memory_limit_bytes": None,
        }


def _processes(context: Context) -> list[proc.ProcessUsage]:
    """Read again when one was reaped meanwhile: its time may have gone to a parent that was read before that."""
    found: list[proc.ProcessUsage] = []
    for _ in range(_READINGS):
        pids = proc.families(context.first)
        usages = [proc.read_usage(pid) for pid in pids]
        found = [usage for usage in usages if usage is not None]
        if len(found) == len(pids):
            break
    return found
