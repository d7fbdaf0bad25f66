"""The agent's flags as a value, and the runtime's settings made from them. Cheap to import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from reconciler.agent.paths import Places
from reconciler.runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from reconciler.runtime.hooks.hooks import Hooks

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """None: chosen for this host."""

    containerizers: tuple[str, ...] | None = None
    isolation: tuple[str, ...] | None = None
    launcher: str | None = None
    cgroups_root: str = "reconciler"
    node_labels: tuple[tuple[str, str], ...] = ()
    user_ids: str | None = None
    insecure_registries: tuple[str, ...] = ()
    registry_auth: str | None = None
    registry_mirrors: tuple[str, ...] = ()
    image_provisioner_backend: str | None = None
    image_disk_headroom: float = 0.1
    networks: str | None = None
    network_cni_config_dir: str | None = None
    network_cni_plugins_dir: tuple[str, ...] | None = None
    max_restarts_per_hour: int = 100
    docker_agent_image: str | None = None
    hooks: tuple[str, ...] = ()
    hook_timeout: float = 10.0
    executor_registration_timeout: float = 60.0
    executor_reregistration_timeout: float = 10.0

    def settings(self, places: Places, owner: str) -> RuntimeSettings:
        return RuntimeSettings(
            root=places.root,
            runtime_dir=places.runtime_dir,
            owner=owner,
            containerizers=self.containerizers,
            launcher=self.launcher,
            isolation=self.isolation,
            cgroups_root=self.cgroups_root,
            docker_agent_image=self.docker_agent_image,
            user_ids=self.user_ids,
            insecure_registries=self.insecure_registries,
            registry_auth=self.registry_auth,
            registry_mirrors=self.registry_mirrors,
            image_provisioner_backend=self.image_provisioner_backend,
            hooks=self.asked(),
            networks=self.networks,
            network_cni_config_dir=self.network_cni_config_dir,
            network_cni_plugins_dir=self.network_cni_plugins_dir,
            executor_registration_timeout=self.executor_registration_timeout,
            executor_reregistration_timeout=self.executor_reregistration_timeout,
        )

    def asked(self) -> Hooks:
        """The hooks by their names; one that is not there any more fails when it is asked."""
        from reconciler.runtime.hooks.hooks import Hooks, named

        return Hooks([named(name) for name in self.hooks], self.hook_timeout)

    def remember(self) -> dict[str, Any]:
        """As it is read back from JSON, so that the same flags are seen to be the same."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found

    @classmethod
    def remembered(cls, flags: Mapping[str, Any]) -> AgentOptions:
        """The inverse, of what was read back from JSON; flags of another version are left out."""
        return cls(
            containerizers=_words(flags.get("containerizers")),
            isolation=_words(flags.get("isolation")),
            launcher=_word(flags.get("launcher")),
            cgroups_root=_word(flags.get("cgroups_root")) or "reconciler",
            node_labels=_pairs(flags.get("node_labels")),
            user_ids=_word(flags.get("user_ids")),
            insecure_registries=_words(flags.get("insecure_registries")) or (),
            registry_auth=_word(flags.get("registry_auth")),
            registry_mirrors=_words(flags.get("registry_mirrors")) or (),
            image_provisioner_backend=_word(flags.get("image_provisioner_backend")),
            image_disk_headroom=_number(flags.get("image_disk_headroom"), 0.1),
            networks=_word(flags.get("networks")),
            network_cni_config_dir=_word(flags.get("network_cni_config_dir")),
            network_cni_plugins_dir=_words(flags.get("network_cni_plugins_dir")),
            max_restarts_per_hour=_number(flags.get("max_restarts_per_hour"), 100),
            docker_agent_image=_word(flags.get("docker_agent_image")),
            hooks=_words(flags.get("hooks")) or (),
            hook_timeout=_number(flags.get("hook_timeout"), 10.0),
            executor_registration_timeout=_number(flags.get("executor_registration_timeout"), 60.0),
            executor_reregistration_timeout=_number(flags.get("executor_reregistration_timeout"), 10.0),
        )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object, default: T) -> T:
    return value if isinstance(value, type(default)) else default


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    found = value if isinstance(value, list | tuple) else ()
    return tuple((str(pair[0]), str(pair[1])) for pair in found if isinstance(pair, list | tuple) and len(pair) == 2)


def _words(value: object) -> tuple[str, ...] | None:
    return tuple(str(each) for each in value) if isinstance(value, list | tuple) else None
