"""The agent's flags as a value, and the runtime's settings made from them. Cheap to import."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.agent.paths import Places
from reconciler.runtime.build import RuntimeSettings


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """None: chosen for this host."""

    containerizers: tuple[str, ...] | None = None
    isolation: tuple[str, ...] | None = None
    launcher: str | None = None
    cgroups_root: str = "reconciler"

    def settings(self, places: Places, owner: str) -> RuntimeSettings:
        return RuntimeSettings(
            root=places.root,
            runtime_dir=places.runtime_dir,
            owner=owner,
            containerizers=self.containerizers,
            launcher=self.launcher,
            isolation=self.isolation,
            cgroups_root=self.cgroups_root,
        )
