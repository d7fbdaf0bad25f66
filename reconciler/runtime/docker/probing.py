"""Health checks of an engine's containers: over the network as for native ones, commands by the engine's own exec."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import Finding
from reconciler.runtime.docker.engine import Engine, EngineLost, Refused
from reconciler.runtime.kernel import proc
from reconciler.runtime.probes import network
from reconciler.runtime.probes.command import KEPT
from reconciler.spec.policies import HealthCheck
from reconciler.states import Reason

_NO_TIMEOUT = 3600.0


async def probe(engine: Engine, name: str, id: str, pid: int, check: HealthCheck) -> Finding:
    """Raises Retryable, or OSError, when it could not be made."""
    seconds = check.timeout or None
    if check.command is None:
        pidfd = proc.pidfd(pid)
        try:
            return await network.probe(check, proc.namespaces(pid).get("network"), pidfd, seconds)
        finally:
            os.close(pidfd)
    try:
        exec_id = await engine.call(lambda api: api.exec_create(id, list(check.command or ()))["Id"])
        return await _run(engine, exec_id, seconds)
    except Refused as error:
        raise Retryable(f"{name}: the check could not be made: {error}", Reason.STATE_UNKNOWN) from error


async def _run(engine: Engine, id: str, seconds: float | None) -> Finding:
    try:
        output = await engine.call(lambda api: api.exec_start(id), seconds or _NO_TIMEOUT, "checks")
    except EngineLost:
        found = await engine.call(lambda api: api.exec_inspect(id))  # an engine that is really lost says so here
        if found["Running"]:
            _kill(found["Pid"])
            return Finding(False, f"timed out after {seconds:g} s and was ended")
        raise
    found = await engine.call(lambda api: api.exec_inspect(id))
    words = " ".join(output[-KEPT:].decode(errors="replace").split())
    code = found["ExitCode"]
    return Finding(code == 0, f"exited with code {code}" + (f": {words}" if words else ""))


def _kill(pid: int) -> None:
    """With all that is below it: an engine has no means to end what it has exec'ed."""
    below: Sequence[int] = proc.descendants(pid)
    for each in (*below, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
