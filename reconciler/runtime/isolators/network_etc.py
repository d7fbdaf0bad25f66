"""/etc/hosts, /etc/hostname and /etc/resolv.conf in containers: part of the isolator `network`.

a network of its own          the pod's: made for its first container, and shown to what is nested in it too
the host's, with a rootfs     copies of the host's as they are at the launch, for an image has none that are of use
the host's, without a rootfs  nothing: the host's own are there

The names of others come from the record of networks, in which what is nested has a line too: whenever that changes,
and when an agent begins, the files of all pods that run are made to say what it says, in a thread of its own. A new
pod's are complete before its first process is let go. A volume of the spec's on or above such a path has it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reconciler.runtime.isolators.isolator import Context, Mount
from reconciler.runtime.isolators.namespaces import of_the_host
from reconciler.runtime.network import etc, names
from reconciler.runtime.network.names import Pod
from reconciler.spec.namespaces import Sharing, effective
from reconciler.spec.targets import normal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.runtime.network.driver import Held
    from reconciler.runtime.network.record import Record
    from reconciler.spec.model import ContainerSpec

log = logging.getLogger(__name__)

_PAUSE = 0.05  # seconds that a launch has for itself before its neighbours are told
_FLAGS = ["ro", "nosuid", "nodev", "noexec"]


class Etc:
    """Safe in any thread."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._stale = self._writing = False
        self._directory: Path | None = None  # where the runtime directories of all containers are

    def recover(self, directory: Path) -> None:
        self._directory = directory
        self.changed()

    def prepare(self, config: ContainerConfig, context: Context) -> dict[str, Mount]:
        """What is mounted in the container, by target."""
        directory, spec = context.runtime_dir, config.spec
        self._directory = directory.parent
        if of_the_host("network", config, context):
            if config.rootfs is None:
                return {}
            for file in etc.FILES:
                etc.create(directory, file, etc.of_the_host(file))
            if not of_the_host("uts", config, context):
                etc.create(directory, etc.HOSTNAME, _hostname(spec))
        elif spec.parent is None:
            etc.create(directory, etc.HOSTS, names.hosts([Pod(spec.name, spec.hostname)])[spec.name])
            etc.create(directory, etc.HOSTNAME, _hostname(spec))
            etc.create(directory, etc.RESOLVER, names.resolver((), etc.resolvers_of_the_host()))
        else:
            directory = directory.parent / _top(spec.name)
            if self._record.of(_top(spec.name)):
                self._record.write(spec.name, ())
                self.changed()
        return _mounts(directory, spec)

    def attached(self, context: Context) -> None:
        """To all its networks: who is there already, and whom to ask."""
        given = [held.attachment.dns for held in self._record.of(context.name) if held.attachment is not None]
        if any(given):
            etc.rewrite(context.runtime_dir, etc.RESOLVER, names.resolver(given, etc.resolvers_of_the_host()))
        if (text := names.hosts(self._pods(), context.name).get(context.name)) is not None:
            etc.rewrite(context.runtime_dir, etc.HOSTS, text)
        self.changed()

    def cleanup(self, context: Context) -> None:
        etc.remove(context.runtime_dir)

    def changed(self) -> None:
        """The record: however often it is said meanwhile, the files are written once more."""
        if (directory := self._directory) is None:
            return
        with self._lock:
            self._stale = True
            if not self._writing:
                self._writing = True
                threading.Thread(target=self._write, args=(directory,), name="names of pods", daemon=False).start()

    def _write(self, directory: Path) -> None:
        time.sleep(_PAUSE)
        while self._next():
            try:
                for name, text in names.hosts(self._pods()).items():
                    etc.rewrite(directory / name, etc.HOSTS, text)
            except OSError as error:
                log.warning("the names of pods could not be written, and are again when one comes or goes: %s", error)

    def _next(self) -> bool:
        with self._lock:
            stale, self._stale = self._stale, False
            self._writing = stale
            return stale

    def _pods(self) -> list[Pod]:
        """Those on networks."""
        record = self._record.all()
        nested: dict[str, list[str]] = {}
        for name in sorted(record):
            if (top := _top(name)) != name:
                nested.setdefault(top, []).append(name)
        return [_pod(name, lines, nested.get(name, ())) for name, lines in record.items() if lines]


def _pod(name: str, lines: Sequence[Held], nested: Sequence[str]) -> Pod:
    there = {
        held.request.network: [address.partition("/")[0] for address in held.attachment.addresses]
        for held in lines
        if held.attachment is not None
    }
    return Pod(name, lines[0].request.hostname, nested, there)


def _mounts(directory: Path, spec: ContainerSpec) -> dict[str, Mount]:
    place = os.path.realpath(directory)
    covered = [PurePosixPath(normal(volume.target)) for volume in spec.volumes]
    found = {}
    for file in etc.FILES:
        target = PurePosixPath("/etc", file)
        if not any(target.is_relative_to(each) for each in covered) and Path(place, file).exists():
            what = f"etc-{file}"
            take = {"op": "take", "source": f"{place}/{file}", "as": what, "resolved": True, "flags": _FLAGS}
            found[str(target)] = Mount(what, (take,), file=True, cover=True)
    return found


def _hostname(spec: ContainerSpec) -> str:
    own = effective(spec)["uts"] is Sharing.PRIVATE
    return f"{spec.hostname or spec.name if own else socket.gethostname()}\n"


def _top(name: str) -> str:
    return name.partition(".")[0]
