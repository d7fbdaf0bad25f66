"""Puts a runtime together from settings: containerizers, launcher, isolators. The one place that knows them all.

linux launcher: root, and a cgroup2 mount or a v1 freezer. Else, and for ordinary users: the posix launcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Terminal
from reconciler.runtime.hooks.hooks import Hooks
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import Containerizer
    from reconciler.runtime.fetcher.fetcher import Fetcher
    from reconciler.runtime.isolators.isolator import Isolator
    from reconciler.runtime.kernel.cgroups import CgroupMap
    from reconciler.runtime.launcher.launcher import Launcher
    from reconciler.runtime.mesos.measuring import Sample
    from reconciler.runtime.network.driver import NetworkDriver
    from reconciler.spec.model import ContainerSpec

CONTAINERIZERS = ("docker", "mesos")
LAUNCHERS = ("linux", "posix")
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """None: chosen for this host. owner: the random id that marks what is ours. user_ids: the host ids that user
    namespaces of containers may have, FIRST-LAST. insecure_registries: spoken to in plain HTTP. registry_auth: a
    file with credentials, as Docker's config.json. hooks: asked in a launch, once what it fetches is there."""

    root: Path
    runtime_dir: Path
    owner: str
    containerizers: tuple[str, ...] | None = None
    launcher: str | None = None
    isolation: tuple[str, ...] | None = None
    cgroups_root: str = "reconciler"
    user_ids: str | None = None
    insecure_registries: tuple[str, ...] = ()
    registry_auth: str | None = None
    hooks: Hooks = field(default_factory=Hooks)


def choose_launcher(wanted: str | None) -> tuple[str, str]:
    """(launcher, why). Raises Terminal for one that does not exist or cannot work here."""
    from reconciler.runtime.kernel import cgroups

    if wanted is not None and wanted not in LAUNCHERS:
        raise Terminal(f"--launcher {wanted}: there is no such launcher; use one of: {', '.join(LAUNCHERS)}")
    if wanted == "posix":
        return "posix", "as asked for"
    missing = ""
    if os.geteuid() != 0:
        missing = "not root"
    else:
        host = cgroups.read_map()
        if host.unified is None and host.hierarchy_of("freezer") is None:
            missing = "no cgroup2 and no v1 freezer hierarchy is mounted"
    if not missing:
        return "linux", "root, and cgroups are mounted"
    if wanted == "linux":
        raise Terminal(f"--launcher linux: {missing}", Reason.NOT_ON_THIS_LAUNCHER)
    return "posix", missing


def refused(settings: RuntimeSettings, spec: ContainerSpec) -> list[str]:
    """What the spec asks for and this host's launcher, or any engine, cannot give, a sentence each."""
    if spec.type == "docker":
        from reconciler.runtime.docker import mapping

        return mapping.refusals(spec)
    from reconciler.runtime.mesos import fit, needs

    launcher, available = _available(settings)
    isolators, left_out = _chosen(available, settings.isolation)
    found = fit.refusals(spec, launcher.name, launcher.gives, limits=launcher.limits)
    return [*found, *needs.refusals(spec, isolators, left_out)]


def build(settings: RuntimeSettings, notify: Callable[[str], None]) -> Containerizer:
    """A containerizer ready to `recover`. Raises Terminal for settings that name what does not exist."""
    from reconciler.runtime.composing import ComposingContainerizer
    from reconciler.runtime.fetcher.fetcher import Fetcher

    settings.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fetcher = Fetcher(settings.root / "cache" / "uris")
    makers = {"mesos": _mesos, "docker": _docker}
    made = [makers[name](settings, fetcher, notify) for name in containerizers(settings)]
    return ComposingContainerizer(made, notify)


def containerizers(settings: RuntimeSettings) -> tuple[str, ...]:
    """Those asked for, in that order; else mesos, and docker where an engine answers or may have a container of ours.
    Raises Terminal for a name that is none."""
    from reconciler.runtime.docker import naming, wire
    from reconciler.runtime.docker.marks import Marks

    if (asked := settings.containerizers) is not None:
        if unknown := [name for name in asked if name not in CONTAINERIZERS]:
            there_are = ", ".join(CONTAINERIZERS)
            raise Terminal(f"--containerizers: no such containerizer: {', '.join(unknown)}; there are: {there_are}")
        return tuple(dict.fromkeys(asked))
    docker = bool(Marks(settings.root).names()) or wire.answers(naming.url_of(os.environ))
    return ("mesos", "docker") if docker else ("mesos",)


Notify = Callable[[str], None]


def _mesos(settings: RuntimeSettings, fetcher: Fetcher, notify: Notify) -> Containerizer:
    from reconciler.runtime.mesos.containerizer import MesosContainerizer
    from reconciler.runtime.provisioner.registry import Access

    launcher, available = _available(settings)
    isolators, left_out = _chosen(available, settings.isolation)
    return MesosContainerizer(
        root=settings.root,
        runtime_dir=settings.runtime_dir,
        launcher=launcher,
        isolators=isolators,
        fetcher=fetcher,
        notify=notify,
        left_out=left_out,
        hooks=settings.hooks,
        access=Access(settings.insecure_registries, settings.registry_auth),
    )


def _docker(settings: RuntimeSettings, fetcher: Fetcher, notify: Notify) -> Containerizer:
    from reconciler.runtime.docker.containerizer import DockerContainerizer
    from reconciler.runtime.docker.engine import Engine
    from reconciler.runtime.docker.naming import url_of
    from reconciler.runtime.kernel import cgroups

    return DockerContainerizer(
        engine=Engine(url_of(os.environ)),
        isolators=_cgroup_isolators(cgroups.read_map()),
        root=settings.root,
        owner=settings.owner,
        fetcher=fetcher,
        notify=notify,
        hooks=settings.hooks,
    )


def _available(settings: RuntimeSettings) -> tuple[Launcher, list[Isolator]]:
    """The launcher, and every isolator that there is for it, in their fixed order."""
    from reconciler.runtime.isolators import cgroups_devices
    from reconciler.runtime.isolators.disk_du import DiskIsolator
    from reconciler.runtime.isolators.filesystem import FilesystemLinuxIsolator, FilesystemPosixIsolator
    from reconciler.runtime.isolators.namespaces_user import UserNamespaceIsolator, parse_pool
    from reconciler.runtime.isolators.rlimits import RlimitsIsolator
    from reconciler.runtime.isolators.sysctls import SysctlsIsolator
    from reconciler.runtime.isolators.volume_sandbox_path import SandboxLinkIsolator
    from reconciler.runtime.kernel import cgroups
    from reconciler.runtime.launcher.cgroup_tree import DEFAULT_CONTROLLERS, CgroupTree
    from reconciler.runtime.launcher.linux import LinuxLauncher
    from reconciler.runtime.launcher.posix import PosixLauncher

    name, _ = choose_launcher(settings.launcher)
    if name == "posix":
        privileges = _privilege_isolators(settings.isolation, limited=False)
        posix: list[Isolator] = [
            FilesystemPosixIsolator(),
            *_posix_isolators(),
            SandboxLinkIsolator(),
            DiskIsolator(),
            RlimitsIsolator(),
            *privileges,
        ]
        return PosixLauncher(settings.runtime_dir), posix
    host = cgroups.read_map()
    tree = CgroupTree(host, settings.cgroups_root, settings.owner, DEFAULT_CONTROLLERS | cgroups_devices.needed(host))
    isolators: list[Isolator] = [
        *_of_namespaces(settings),
        UserNamespaceIsolator(settings.runtime_dir, parse_pool(settings.user_ids), settings.owner),
        SysctlsIsolator(),
        FilesystemLinuxIsolator(settings.root, settings.runtime_dir, host.hierarchies),
        *_volume_isolators(settings),
        DiskIsolator(),
        RlimitsIsolator(),
        *_cgroup_isolators(host),
        *_device_isolators(host, settings.isolation),
        *_privilege_isolators(settings.isolation, limited=True),
    ]
    return LinuxLauncher(settings.runtime_dir, tree), isolators


def _of_namespaces(settings: RuntimeSettings) -> list[Isolator]:
    """Those that judge a spec before it is launched."""
    from reconciler.runtime.isolators.namespaces import NamespacesIsolator
    from reconciler.runtime.isolators.namespaces_user import UserNamespaceIsolator
    from reconciler.runtime.isolators.network import NetworkIsolator
    from reconciler.runtime.network.record import Record

    network = NetworkIsolator(Record(settings.root), _network_drivers(settings))
    judged = (UserNamespaceIsolator.name, NetworkIsolator.name)
    left_out = [name for name in judged if settings.isolation is not None and name not in settings.isolation]
    return [NamespacesIsolator(left_out), network]


def _network_drivers(settings: RuntimeSettings) -> list[NetworkDriver]:
    """Of two with a network of the same name the first has it."""
    return []


def _volume_isolators(settings: RuntimeSettings) -> list[Isolator]:
    from reconciler.runtime.isolators.volume_host_path import HostPathIsolator
    from reconciler.runtime.isolators.volume_named import NamedVolumeIsolator
    from reconciler.runtime.isolators.volume_sandbox_path import SandboxPathIsolator
    from reconciler.runtime.isolators.volume_secret import SecretIsolator
    from reconciler.runtime.isolators.volume_tmpfs import TmpfsIsolator

    return [
        HostPathIsolator(settings.root, settings.runtime_dir),
        SandboxPathIsolator(),
        TmpfsIsolator(),
        SecretIsolator(),
        NamedVolumeIsolator(settings.root),
    ]


def _cgroup_isolators(host: CgroupMap) -> list[Isolator]:
    from reconciler.runtime.isolators.cgroups_cpu import CpuIsolator
    from reconciler.runtime.isolators.cgroups_mem import MemoryIsolator
    from reconciler.runtime.isolators.cgroups_pids import PidsIsolator

    return [CpuIsolator(host), MemoryIsolator(host), PidsIsolator(host)]


def _posix_isolators() -> list[Isolator]:
    from reconciler.runtime.isolators.posix import PosixCpuIsolator, PosixMemoryIsolator

    return [PosixCpuIsolator(), PosixMemoryIsolator()]


def _device_isolators(host: CgroupMap, isolation: tuple[str, ...] | None) -> list[Isolator]:
    """`cgroups/devices` is left out where the kernel will not have it, unless it was asked for by name: then that is an
    error."""
    from reconciler.runtime.isolators.cgroups_devices import DevicesIsolator, unavailable
    from reconciler.runtime.isolators.linux_devices import LinuxDevicesIsolator

    nodes = LinuxDevicesIsolator()
    why = unavailable(host)
    if why and isolation is not None and DevicesIsolator.name in isolation:
        raise Terminal(f"--isolation {DevicesIsolator.name}: {why}")
    return [nodes] if why else [nodes, DevicesIsolator(host, [nodes])]


def _privilege_isolators(isolation: tuple[str, ...] | None, *, limited: bool) -> list[Isolator]:
    """limited: capabilities can be taken away here; else what an isolator of them would leave is what we hold."""
    from reconciler.runtime.isolators.capabilities import CapabilitiesIsolator, granted, present
    from reconciler.runtime.isolators.nnp import NoNewPrivilegesIsolator
    from reconciler.runtime.isolators.seccomp import SeccompIsolator

    limited = limited and (isolation is None or CapabilitiesIsolator.name in isolation)
    found: list[Isolator] = [CapabilitiesIsolator()] if limited else []
    return [*found, NoNewPrivilegesIsolator(), SeccompIsolator(granted if limited else present)]


def _chosen(isolators: list[Isolator], isolation: tuple[str, ...] | None) -> tuple[list[Isolator], frozenset[str]]:
    """(those that `--isolation` names, in their own fixed order, or all of them when it is not given; the names of the
    others)."""
    if isolation is None:
        return isolators, frozenset()
    known = [isolator.name for isolator in isolators]
    if unknown := [name for name in isolation if name not in known]:
        raise Terminal(f"--isolation: no such isolator here: {', '.join(unknown)}; there are: {', '.join(known)}")
    return [each for each in isolators if each.name in isolation], frozenset(known) - set(isolation)


def sample(root: Path, runtime_dir: Path, owner: str, names: Collection[str] | None) -> dict[str, Sample]:
    """What containers use at this moment, without an agent: see `measuring`."""
    from reconciler.runtime.docker import naming
    from reconciler.runtime.docker.observing import sample_engine
    from reconciler.runtime.isolators.disk_du import DiskIsolator
    from reconciler.runtime.kernel import cgroups
    from reconciler.runtime.mesos.measuring import sample

    linux = _cgroup_isolators(cgroups.read_map())
    isolators = {"linux": [*linux, DiskIsolator()], "posix": [*_posix_isolators(), DiskIsolator()]}
    native = sample(runtime_dir, names, lambda launcher: isolators.get(launcher, []))
    return {**sample_engine(root, owner, naming.url_of(os.environ), names, linux), **native}


async def end(settings: RuntimeSettings) -> None:
    """No container is left: have the keeper go now, and remove our cgroup roots and our empty directories."""
    from reconciler.runtime.kernel import cgroups
    from reconciler.runtime.launcher import connection
    from reconciler.runtime.launcher.cgroup_tree import CgroupTree
    from reconciler.runtime.launcher.pins import Pins

    await asyncio.to_thread(connection.end, settings.runtime_dir, _END_SECONDS)
    Pins(settings.runtime_dir).remove()
    name, _ = choose_launcher(settings.launcher)
    if name == "linux":
        tree = CgroupTree(cgroups.read_map(), settings.cgroups_root, settings.owner)
        await asyncio.to_thread(tree.remove_roots)
    for directory in (settings.runtime_dir / "containers", settings.runtime_dir):
        with contextlib.suppress(OSError):
            directory.rmdir()
