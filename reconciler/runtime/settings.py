"""What a runtime is put together from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.runtime.hooks.hooks import Hooks

NAMED_ONLY = frozenset({"disk/xfs"})
DEFAULT = "default"  # in `isolation`: every isolator of our own
IMAGE_BACKENDS = ("overlay", "copy", "bind")
LAUNCHERS = ("linux", "posix")


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """None: chosen for this host. owner: the random id that marks what is ours. user_ids: the host ids that user
    namespaces of containers may have, FIRST-LAST. insecure_registries: spoken to in plain HTTP. registry_auth: a
    file with credentials, as Docker's config.json. registry_mirrors: REGISTRY=MIRROR, asked first.
    networks: the file of networks. docker_agent_image: we run in a container, of this image. hooks: asked in a launch,
    once what it fetches is there. executor_…: seconds that a custom executor has to subscribe, and to come back."""

    root: Path
    runtime_dir: Path
    owner: str
    containerizers: tuple[str, ...] | None = None
    docker_agent_image: str | None = None
    launcher: str | None = None
    isolation: tuple[str, ...] | None = None
    cgroups_root: str = "reconciler"
    user_ids: str | None = None
    insecure_registries: tuple[str, ...] = ()
    registry_auth: str | None = None
    registry_mirrors: tuple[str, ...] = ()
    image_provisioner_backend: str | None = None
    networks: str | None = None
    network_cni_config_dir: str | None = None
    network_cni_plugins_dir: tuple[str, ...] | None = None
    hooks: Hooks | None = None
    executor_registration_timeout: float = 60.0
    executor_reregistration_timeout: float = 10.0

    def enabled(self, isolator: str) -> bool:
        """Whether one of our own is used. `default` stands for all of these but those that have to be named."""
        named = (DEFAULT,) if self.isolation is None else self.isolation
        return isolator in named or (DEFAULT in named and isolator not in NAMED_ONLY)
