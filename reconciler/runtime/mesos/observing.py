"""What reading verbs see when no agent runs: checkpoints, corrected by what the kernel says. Changes nothing.

A run whose first process is gone has ended, whoever was there to notice; its status is in the files that its init
and the keeper wrote. Standard library only, since `ps` must answer at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.runtime.containerizer import ContainerStatus
from reconciler.runtime.kernel import proc
from reconciler.runtime.mesos.checkpoint import EXIT, REAPED, Checkpoints, Run, Unreadable
from reconciler.runtime.mesos.termination import terminate


def observe_runs(runtime_dir: Path) -> Mapping[str, ContainerStatus]:
    """Name → status, of every readable checkpoint."""
    checkpoints, boot = Checkpoints(runtime_dir), proc.boot_id()
    found: dict[str, ContainerStatus] = {}
    gone: set[str] = set()
    for name in checkpoints.names():
        try:
            run = checkpoints.read(name)
        except Unreadable:
            continue
        if run is None:
            continue
        if not _runs(run, boot):
            gone.add(name)
            run = _ended(run, checkpoints, parent_ended=name.rpartition(".")[0] in gone)
        found[name] = run.status()
    return found


def _runs(run: Run, boot: str) -> bool:
    if run.termination is not None or run.pid is None or run.start is None or run.boot != boot:
        return False
    return proc.is_running(run.pid, run.start)


def _ended(run: Run, checkpoints: Checkpoints, *, parent_ended: bool) -> Run:
    if run.termination is None and run.pid is not None:
        termination = terminate(
            exit_status=checkpoints.read_end(run.name, EXIT),
            reaped=checkpoints.read_end(run.name, REAPED),
            parent_ended=parent_ended,
            oom=None,
            now=time.time(),
        )
        run = replace(run, termination=termination)
    return replace(run, state=None)
