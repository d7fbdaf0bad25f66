"""Isolator `volume/host_path`: a file or directory of the host in the container.

Invariant: the mount has at least the restrictions of its source, as nothing here clears a flag, and shows nothing of
our own state. The path is the administrator's and its links are followed, once, here; what is taken later must have
none. Mounts below the source come with it. After Mesos's isolator of that name and mount_namespaces(7).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Mount, PassiveIsolator
from reconciler.runtime.isolators.namespaces import mapped
from reconciler.runtime.isolators.volumes import flags, label, of_type
from reconciler.runtime.kernel import mountinfo
from reconciler.spec.model import ContainerSpec, Volume
from reconciler.states import Reason

_PEERS = {"shared": ("shared:",), "slave": ("shared:", "master:")}


class HostPathIsolator(PassiveIsolator):
    name = "volume/host_path"

    def __init__(self, root: Path, runtime_dir: Path) -> None:
        self._own = (Path(os.path.realpath(root)), Path(os.path.realpath(runtime_dir)))

    def foresee(self, spec: ContainerSpec) -> None:
        for number, volume in enumerate(spec.volumes):
            if volume.type == "hostPath":
                self._located(f"{spec.name}: spec.volumes[{number}]", volume)

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        return LaunchInfo(
            volumes={
                number: self._mount(config, context, number, volume) for number, volume in of_type(config, "hostPath")
            }
        )

    def _mount(self, config: ContainerConfig, context: Context, number: int, volume: Volume) -> Mount:
        where = f"{config.name}: spec.volumes[{number}]"
        source, mode = self._located(where, volume)
        if volume.propagation == "shared" and mapped(config, context):
            why = "what is mounted in a user namespace is never seen on the host"
            raise Terminal(f"{where}.propagation: shared cannot be had: {why}", Reason.INVALID_SPEC)
        what = label(number)
        step = {"op": "take", "source": source, "as": what, "resolved": True, "recursive": True, "idmap": True}
        step |= {"flags": flags(config, volume)}
        first = volume.propagation == "shared"
        if not first:
            step["propagation"] = volume.propagation
        return Mount(what, (step,), first, file=not stat.S_ISDIR(mode))

    def _located(self, where: str, volume: Volume) -> tuple[str, int]:
        """The path without links, and its mode. Raises Retryable or Terminal for one that cannot be mounted."""
        written = volume.source or ""
        source = os.path.realpath(written)
        try:
            mode = Path(source).stat().st_mode
        except OSError as error:
            raise Retryable(f"{where}.source: {written}: {error.strerror}", Reason.LAUNCH_FAILED) from error
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise Terminal(f"{where}.source: {written} is a device; list it under devices", Reason.INVALID_SPEC)
        _refuse_own(f"{where}.source", Path(source), self._own)
        if volume.propagation != "private":
            _refuse_unshared(f"{where}.propagation", source, volume.propagation)
        return source, mode


def _refuse_own(where: str, source: Path, own: Sequence[Path]) -> None:
    for directory in own:
        if source.is_relative_to(directory) or directory.is_relative_to(source):
            message = f"{where}: {source} overlaps {directory}, where reconciler keeps its state"
            raise Terminal(
                f"{message}; for a directory that outlives the container use type: volume", Reason.INVALID_SPEC
            )


def _refuse_unshared(where: str, source: str, propagation: str) -> None:
    """What is not shared on the host cannot be shared with a container: nothing would ever appear."""
    found = max(
        (mount for mount in mountinfo.read() if Path(source).is_relative_to(mount.target)),
        key=lambda mount: len(Path(mount.target).parts),
    )
    if not any(peer.startswith(_PEERS[propagation]) for peer in found.peers):
        message = f"{where}: {propagation} cannot be had: {source} is on the mount {found.target}, which is private"
        raise Terminal(f"{message}; mount --make-shared {found.target} first", Reason.INVALID_SPEC)
