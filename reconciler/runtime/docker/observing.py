"""What reading verbs see of an engine's containers when no agent runs. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.runtime.containerizer import ContainerStatus
from reconciler.runtime.docker import naming, reading
from reconciler.runtime.docker.executor import record
from reconciler.runtime.docker.marks import Marks
from reconciler.runtime.isolators.isolator import Context, Isolator
from reconciler.runtime.kernel import cgroups
from reconciler.runtime.mesos.measuring import Sample, merged
from reconciler.states import ContainerState

_SECONDS = 3.0


def observe_engine(root: Path, owner: str, url: str) -> tuple[Mapping[str, ContainerStatus], Mapping[str, str]]:
    """(name → status, name → why it cannot be told). Asks nobody where there never was such a container."""
    marks = Marks(root)
    marked = marks.names()
    if not marked:
        return {}, {}
    from reconciler.runtime.docker import wire  # a half of the time that `ps` takes without it

    found: dict[str, ContainerStatus] = {}
    try:
        query = {"filters": {"label": [f"{naming.OWNER}={owner}"]}, "all": True}
        for each in wire.get(url, "/containers/json", _SECONDS, query) or []:
            if naming.NAME not in each["Labels"]:
                continue
            inspected = wire.get(url, f"/containers/{each['Id']}/json", _SECONDS)
            if inspected is not None and not reading.never_started(inspected):
                status = _status(inspected)
                found[status.name] = status
    except OSError as error:
        return {}, dict.fromkeys(marked, f"the Docker Engine at {url} does not answer: {error}")
    for name in marked - found.keys():
        written, _ = record.look(str(marks.path(name)))
        if written is not None and written["container"] is not None:  # its end; the engine has it no more
            found[name] = _status(written["container"])
    return found, {}


def sample_engine(
    root: Path, owner: str, url: str, names: Collection[str] | None, isolators: Sequence[Isolator]
) -> dict[str, Sample]:
    """What those that run use, by the figures of their cgroups."""
    found = {}
    for name, status in observe_engine(root, owner, url)[0].items():
        if status.pid is not None and (names is None or name in names):
            context = Context(name, cgroups.directories_of(status.pid), Path("/"))
            usage = merged(isolator.usage(context) for isolator in isolators)
            found[name] = Sample(f"{status.pid} {status.started_at}", time.monotonic(), usage)
    return found


def _status(inspected: Mapping[str, Any]) -> ContainerStatus:
    state, labels = inspected["State"], inspected["Config"]["Labels"]
    alive = reading.is_alive(inspected)
    return ContainerStatus(
        name=labels[naming.NAME],
        containerizer="docker",
        state=ContainerState.RUNNING if alive else None,
        digest=labels[naming.DIGEST],
        pid=state["Pid"] if alive else None,
        started_at=reading.moment(state["StartedAt"]),
        termination=None if alive else reading.ended(inspected, time.time()),
    )
