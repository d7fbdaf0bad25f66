"""Isolator `volume/sandbox_path`: a directory of the container's own or its parent's sandbox, at another place too.

Invariant: containers can change their sandboxes at any time, so the source is resolved beneath the top-level sandbox
without following a link, when it is made and again when it is taken. A missing one is made and belongs to the
container's user. Without mount namespaces it is a link in the sandbox, as in Mesos.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from reconciler.errors import Terminal
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, Mount, PassiveIsolator, Support
from reconciler.runtime.isolators.volumes import flags, label, of_type
from reconciler.runtime.kernel import rootpaths
from reconciler.spec.model import Volume
from reconciler.spec.targets import normal
from reconciler.states import Reason


class SandboxPathIsolator(PassiveIsolator):
    name = "volume/sandbox_path"

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        mounts: dict[int, Mount] = {}
        for number, volume in of_type(config, "sandboxPath"):
            top, beneath = _source(config, volume)
            _make(config, number, top, beneath)
            step = {
                "op": "take",
                "source": top,
                "beneath": beneath,
                "as": label(number),
                "idmap": True,
                "flags": flags(config, volume),
            }
            mounts[number] = Mount(label(number), (step,))
        return LaunchInfo(volumes=mounts)


class SandboxLinkIsolator(PassiveIsolator):
    """The same for a launcher without mounts."""

    name = "volume/sandbox_path"

    def support(self) -> Support:
        return Support(Level.PARTLY, "links in the sandbox: nothing at an absolute path, nothing read-only")

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        numbers = []
        for number, volume in of_type(config, "sandboxPath"):
            top, beneath = _source(config, volume)
            _make(config, number, top, beneath)
            with _explained(config, f"volumes[{number}].target"):
                _link(config, f"{top}/{beneath}", normal(volume.target))
            numbers.append(number)
        return LaunchInfo(volumes=dict.fromkeys(numbers))


def _source(config: ContainerConfig, volume: Volume) -> tuple[str, str]:
    """(the top-level sandbox, the way from there)."""
    top, beneath = config.sandbox_place
    parts = beneath.split("/") if beneath else []
    if volume.scope == "parent":
        parts = parts[:-2]  # without containers/<label>
    return top, "/".join((*parts, normal(volume.source or ".")))


def _make(config: ContainerConfig, number: int, top: str, beneath: str) -> None:
    with _explained(config, f"volumes[{number}].source"), rootpaths.opened(top) as sandbox:
        with contextlib.suppress(FileNotFoundError):
            fd = rootpaths.existing(sandbox, beneath, links=False)
            try:
                if not stat.S_ISDIR(os.fstat(fd).st_mode):
                    raise NotADirectoryError(0, "must be a directory, but something else is in the way", beneath)
            finally:
                os.close(fd)
            return
        with rootpaths.made(sandbox, beneath, links=False) as made:
            if config.owner is not None:
                os.fchown(made, *config.owner)


def _link(config: ContainerConfig, source: str, target: str) -> None:
    above, _, name = target.rpartition("/")
    top, beneath = config.sandbox_place
    with rootpaths.opened(top) as root, rootpaths.made(root, f"{beneath}/{above}".strip("/") or ".", links=False) as at:
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(name, dir_fd=at) == source:
                return
            os.unlink(name, dir_fd=at)  # only a link can be read as one
        os.symlink(source, name, dir_fd=at)


@contextlib.contextmanager
def _explained(config: ContainerConfig, field: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise Terminal(f"{config.name}: spec.{field}: in the sandbox, {what}", Reason.LAUNCH_FAILED) from error
