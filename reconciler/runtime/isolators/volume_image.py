"""Isolator `volume/image`: an image's files, read-only, or with a layer of the container's own that goes with its run;
and the volumes that the image of the container's own root asks for.

The image was provided before the last run was ended, and its layers are claimed for this one (provisioner/images.py);
mounted by the container's first process, nowhere on the host.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Mount, PassiveIsolator
from reconciler.runtime.isolators.volumes import flags, label, of_type


class ImageVolumeIsolator(PassiveIsolator):
    name = "volume/image"

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        mounts = {}
        for number, volume in of_type(config, "image"):
            laid, given = config.images[number], flags(config, volume)
            if isinstance(laid, Path):
                step = {"op": "take", "source": str(laid), "as": label(number), "resolved": True, "idmap": True}
                mounts[number] = Mount(label(number), (step | {"flags": given, "propagation": "private"},))
            else:
                mounts[number] = Mount(label(number), (laid.step(label(number), given),))
        return LaunchInfo(volumes=mounts, nodes=_of_its_image(config))


def _of_its_image(config: ContainerConfig) -> dict[str, Mount]:
    """What a VOLUME of it asks for: a directory of this run's, writable whatever the root is."""
    nodev = [] if config.spec.security.privileged else ["nodev"]
    found = {}
    for number, (target, directory) in enumerate(config.image_volumes.items()):
        what = f"image-volume-{number}"
        step = {"op": "take", "source": str(directory), "as": what, "resolved": True, "idmap": True}
        found[target] = Mount(what, (step | {"flags": nodev, "propagation": "private"},))
    return found
