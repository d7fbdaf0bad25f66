"""How containers of ours are known on an engine, and where the engine is. Standard library only, and little of it."""

from __future__ import annotations

from collections.abc import Mapping

OWNER, NAME, DIGEST = "reconciler.owner", "reconciler.name", "reconciler.digest"
"""Labels. What has not all three, with our owner, is not ours."""
SEAL = "reconciler.seal"
"""A label besides: the hash of what it was made from."""
HEALTH = "reconciler.healthChecks"
"""Another: what its image says to check, for a later agent."""
EXECUTOR = "reconciler.executor"
"""Of an executor's container, beside OWNER: whose executor it is."""
DEFAULT_URL = "unix:///var/run/docker.sock"


def engine_name(owner: str, name: str) -> str:
    """Unique among agents of one engine."""
    return f"reconciler-{owner[:12]}-{name}"


def executor_name(owner: str, name: str) -> str:
    """No name of a container has a dot in it."""
    return f"{engine_name(owner, name)}.executor"


def url_of(environ: Mapping[str, str]) -> str:
    return environ.get("DOCKER_HOST") or DEFAULT_URL
