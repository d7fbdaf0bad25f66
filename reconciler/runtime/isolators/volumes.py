"""Where volumes go in the steps of a launch. Pure.

The isolators of volumes, and those of devices and networks, say what is mounted (`Mount`); `filesystem/linux` leaves
places in its steps; `woven` puts the one into the other:

  first   before the host's mounts stop being shared with ours: what is to stay shared
  take    every other source, while the host's paths are there and our own directories are not hidden
  points  what volumes are mounted on, before a root becomes read-only
  below   what the sandbox lies in
  volumes all the rest, outer targets before those inside them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from reconciler.errors import Terminal, Unsupported
from reconciler.spec.targets import normal
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.runtime.isolators.isolator import LaunchInfo, Mount
    from reconciler.spec.model import Volume

Step = dict[str, Any]

_PLACE = "place"
_PLACES = ("first", "take", "points", "below", "volumes")
ISOLATORS = {
    "hostPath": "volume/host_path",
    "sandboxPath": "volume/sandbox_path",
    "tmpfs": "volume/tmpfs",
    "secret": "volume/secret",
    "volume": "volume",
    "image": "volume/image",
}


def place(name: str) -> Step:
    """Stands in an isolator's steps for those of the volumes."""
    return {"op": _PLACE, "name": name}


def of_type(config: ContainerConfig, kind: str) -> Iterator[tuple[int, Volume]]:
    return ((number, volume) for number, volume in enumerate(config.spec.volumes) if volume.type == kind)


def flags(config: ContainerConfig, volume: Volume) -> list[str]:
    """What is added to those of the source. No device works in a root of its own but those of its /dev."""
    nodev = config.rootfs is not None and not config.spec.security.privileged
    return [*(["ro"] if volume.read_only else []), *(["nodev"] if nodev else [])]


def label(number: int) -> str:
    """The descriptor of a volume."""
    return f"volume-{number}"


@dataclass(frozen=True, slots=True)
class _Placed:
    """where: as the container sees it. inside: the target is in the sandbox, to be resolved from there."""

    mount: Mount
    where: PurePosixPath
    inside: str | None


def woven(config: ContainerConfig, info: LaunchInfo, sandbox: str) -> list[Step]:
    """The steps of all isolators, the volumes' in their places. sandbox: where the container has it. Raises Terminal
    for a volume that nobody mounts."""
    placed = _placed(config, info, PurePosixPath(sandbox))
    own_root = config.rootfs is not None
    sandbox_at = PurePosixPath(sandbox)
    below = [each for each in placed if sandbox_at.is_relative_to(each.where)]
    rest = [each for each in placed if each not in below]
    put = {"in": "root"} if own_root else {}
    found: dict[str, list[Step]] = {
        "first": [dict(step) for each in placed if each.mount.first for step in each.mount.take],
        "take": [dict(step) for each in placed if not each.mount.first for step in each.mount.take],
        "points": _points(placed),
        "below": [_put(each, put, sandbox) for each in below],
        "volumes": [_put(each, put, sandbox) for each in rest],
    }
    steps: list[Step] = []
    for step in info.steps:
        steps += found.pop(str(step["name"])) if step["op"] == _PLACE else [dict(step)]
    if "take" in found and any(not each.mount.cover for each in placed):
        raise Unsupported("spec.volumes: need the isolator filesystem/linux; add it to --isolation")
    return steps


def _wanted(config: ContainerConfig, info: LaunchInfo) -> Iterator[tuple[str, str, Mount]]:
    """(field, target, what is mounted there), the volumes before the devices."""
    for number, volume in enumerate(config.spec.volumes):
        field = f"spec.volumes[{number}]"
        if number not in info.volumes:
            isolator = ISOLATORS[volume.type]
            raise Unsupported(f"{field}.type: needs the isolator {isolator}; add it to --isolation")
        if (mount := info.volumes[number]) is not None:
            yield field, volume.target, mount
    if config.image_volumes.keys() - info.nodes.keys():
        isolator = ISOLATORS["image"]
        raise Unsupported(f"the image's volumes need the isolator {isolator}; add it to --isolation")
    for target, mount in info.nodes.items():
        yield f"the image's volume {target}" if target in config.image_volumes else "spec.devices", target, mount


def _placed(config: ContainerConfig, info: LaunchInfo, sandbox: PurePosixPath) -> list[_Placed]:
    found: dict[PurePosixPath, _Placed] = {}
    for field, target, mount in _wanted(config, info):
        where = sandbox / normal(target)  # an absolute one stays what it is
        if where == sandbox:
            raise Terminal(f"{field}.target: the sandbox itself is at {sandbox}", Reason.INVALID_SPEC)
        if where in found:
            raise Terminal(f"{field}.target: {where} is the target of another one too", Reason.INVALID_SPEC)
        inside = str(where.relative_to(sandbox)) if where.is_relative_to(sandbox) else None
        found[where] = _Placed(mount, where, inside)
    return [found[where] for where in sorted(found, key=lambda path: path.parts)]


def _points(placed: Sequence[_Placed]) -> list[Step]:
    """Of those in the root itself: what lies in another volume, in the sandbox or in /dev is made there."""
    made: list[_Placed] = []
    for each in placed:
        ours = each.inside is None and not each.where.is_relative_to("/dev")
        if ours and not any(each.where.is_relative_to(other.where) for other in made):
            made.append(each)
    if not made:
        return []
    covered = [str(each.where) for each in made if each.mount.cover]
    files = [str(each.where) for each in made if each.mount.file and not each.mount.cover]
    directories = [str(each.where) for each in made if not each.mount.file]
    return [{"op": "points", "files": files, "directories": directories, "covered": covered}]


def _put(each: _Placed, put: Mapping[str, str], sandbox: str) -> Step:
    step: Step = {"op": "cover" if each.mount.cover else "volume", "what": each.mount.what, **put}
    if each.inside is None:
        return step | {"target": str(each.where)}
    return step | {"sandbox": sandbox, "target": each.inside}
