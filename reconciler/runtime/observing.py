"""What there is of every containerizer, seen without an agent and without changing anything. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.runtime.containerizer import ContainerStatus
from reconciler.runtime.docker import naming
from reconciler.runtime.docker.observing import observe_engine
from reconciler.runtime.executor.records import Records
from reconciler.runtime.executor.session import shown
from reconciler.runtime.mesos.observing import observe_runs


def observe(root: Path, runtime_dir: Path, owner: str) -> tuple[Mapping[str, ContainerStatus], Mapping[str, str]]:
    """(name → status, name → why it cannot be told); a name in neither is certainly not there."""
    found, unknown = observe_engine(root, owner, naming.url_of(os.environ))
    found = {**found, **observe_runs(runtime_dir)}
    sessions = Records(runtime_dir).load()[0] if found else {}
    return {name: shown(sessions[name], seen) if name in sessions else seen for name, seen in found.items()}, unknown
