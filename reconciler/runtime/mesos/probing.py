"""Health checks of native containers: where each is made from, and that none is made in one that is on its way out."""

from __future__ import annotations

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import Finding
from reconciler.runtime.launcher.launcher import Launcher
from reconciler.runtime.mesos.container import Container
from reconciler.runtime.probes import network
from reconciler.runtime.probes.command import CommandCheck
from reconciler.spec.policies import HealthCheck
from reconciler.states import Reason


async def probe(launcher: Launcher, container: Container, check: HealthCheck) -> Finding:
    """Raises Retryable, or OSError, when it could not be made, as when the container ends meanwhile."""
    seconds = check.timeout or None
    if check.command is not None:
        finding = await CommandCheck(launcher, container.run, container.pidfd, check.command).run(seconds)
    else:
        finding = await network.probe(check, container.run.namespaces.get("network"), container.pidfd, seconds)
    if not container.serves:
        raise Retryable(f"{container.name} ended meanwhile", Reason.STATE_UNKNOWN)
    return finding
