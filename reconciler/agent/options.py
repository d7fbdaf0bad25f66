"""The agent's flags as a value, and the runtime's settings made from them. Cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

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

    def remember(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def remembered(cls, flags: Mapping[str, Any]) -> AgentOptions:
        """The inverse, of what was read back from JSON; flags of another version are left out."""
        return cls(
            containerizers=_words(flags.get("containerizers")),
            isolation=_words(flags.get("isolation")),
            launcher=_word(flags.get("launcher")),
            cgroups_root=_word(flags.get("cgroups_root")) or "reconciler",
        )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _words(value: object) -> tuple[str, ...] | None:
    return tuple(str(each) for each in value) if isinstance(value, list | tuple) else None
