"""Isolator `volume/tmpfs`: memory of the container's own, gone with its run. Charged to its memory limit."""

from __future__ import annotations

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Mount, PassiveIsolator
from reconciler.runtime.isolators.volumes import label, of_type

_MODE = "1777"


class TmpfsIsolator(PassiveIsolator):
    name = "volume/tmpfs"

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        mounts = {}
        for number, volume in of_type(config, "tmpfs"):
            options = {"mode": volume.mode or _MODE}
            if volume.size is not None:
                options["size"] = str(volume.size)
            step = {"op": "tmpfs", "as": label(number), "options": options}
            step["flags"] = ["nosuid", "nodev", *(["ro"] if volume.read_only else [])]
            mounts[number] = Mount(label(number), (step,))
        return LaunchInfo(volumes=mounts)
