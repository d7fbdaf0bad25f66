"""Health checks of native containers: where each is made from, and that none is made in one that is on its way out."""

from __future__ import annotations

import asyncio

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import Finding
from reconciler.runtime.kernel import proc
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
        finding = await _over_the_network(container, check, seconds)
    if not container.serves:
        raise Retryable(f"{container.name} ended meanwhile", Reason.STATE_UNKNOWN)
    return finding


async def _over_the_network(container: Container, check: HealthCheck, seconds: float | None) -> Finding:
    shared = container.run.namespaces.get("network") in (None, proc.namespaces("self").get("network"))
    of = None if shared else container.pidfd
    try:
        async with asyncio.timeout(seconds):
            if check.http is not None:
                return await network.http(check.http, of)
            assert check.tcp is not None
            return await network.tcp(check.tcp, of)
    except TimeoutError:
        return Finding(False, f"timed out after {seconds:g} s")
