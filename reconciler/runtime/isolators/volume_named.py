"""Isolator `volume`: a directory with a name, ROOT/volumes/NAME, that outlives every container which mounts it.

Made when it is first asked for and then owned by the user of that container; never removed by us.
"""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Mount, PassiveIsolator
from reconciler.runtime.isolators.volumes import flags, label, of_type


class NamedVolumeIsolator(PassiveIsolator):
    name = "volume"

    def __init__(self, root: Path) -> None:
        self._volumes = Path(os.path.realpath(root)) / "volumes"

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        mounts = {}
        for number, volume in of_type(config, "volume"):
            directory = self._volumes / (volume.source or "")
            self._make(directory, config.owner)
            step = {"op": "take", "source": str(directory), "as": label(number), "resolved": True, "idmap": True}
            mounts[number] = Mount(label(number), (step | {"flags": flags(config, volume), "propagation": "private"},))
        return LaunchInfo(volumes=mounts)

    def _make(self, directory: Path, owner: tuple[int, int] | None) -> None:
        """Nobody else of this host may reach it, lest a set-user-id program made inside is of use outside."""
        self._volumes.mkdir(mode=0o700, exist_ok=True)
        if directory.is_dir():
            return
        made = directory.with_name(f".{directory.name}.new")
        made.mkdir(mode=0o755, exist_ok=True)
        if owner is not None:
            os.chown(made, *owner)
        made.rename(directory)  # whoever sees it sees it with its owner
