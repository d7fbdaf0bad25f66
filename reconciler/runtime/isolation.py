"""The launcher of this host, and the chain of isolators that goes with it. The one place that knows them all.

linux launcher: root, and a cgroup2 mount or a v1 freezer. Else, and for ordinary users: the posix launcher.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import ReconcilerError, Terminal
from reconciler.runtime.settings import DEFAULT, LAUNCHERS, RuntimeSettings
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.runtime.isolators.isolator import Host, Isolator, Support
    from reconciler.runtime.kernel.cgroups import CgroupMap
    from reconciler.runtime.launcher.launcher import Launcher
    from reconciler.runtime.network.driver import NetworkDriver
    from reconciler.spec.model import ContainerSpec


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


def chain(settings: RuntimeSettings) -> tuple[Launcher, list[Isolator], frozenset[str]]:
    """(the launcher; the isolators in their fixed order: those that `--isolation` names, or all; the names of the
    others). Raises Terminal for a name that is none, and for one that does not work here."""
    launcher, available = _available(settings)
    return launcher, *_chosen(available, settings)


def _available(settings: RuntimeSettings) -> tuple[Launcher, list[Isolator]]:
    """The launcher, and every isolator that there is for it, in their fixed order."""
    from reconciler.runtime.isolators import cgroups_devices
    from reconciler.runtime.kernel import cgroups
    from reconciler.runtime.launcher.cgroup_tree import DEFAULT_CONTROLLERS, CgroupTree
    from reconciler.runtime.launcher.linux import LinuxLauncher
    from reconciler.runtime.launcher.posix import PosixLauncher

    name, _ = choose_launcher(settings.launcher)
    if name == "posix":
        return PosixLauncher(settings.runtime_dir), [*_posix(settings), *_custom(settings, name)]
    host = cgroups.read_map()
    tree = CgroupTree(host, settings.cgroups_root, settings.owner, DEFAULT_CONTROLLERS | cgroups_devices.needed(host))
    return LinuxLauncher(settings.runtime_dir, tree), [*_linux(settings, host), *_custom(settings, name)]


def supported(settings: RuntimeSettings) -> list[tuple[str, Support]]:
    """Each isolator there is, those of the other launcher and of other packages included, and how far it works here."""
    from reconciler.runtime.isolators import custom
    from reconciler.runtime.isolators.isolator import Level, Support
    from reconciler.runtime.kernel import cgroups

    name, why = choose_launcher(settings.launcher)
    own, other = _linux(settings, cgroups.read_map()), _posix(settings)
    if name == "posix":
        own, other = other, own
    found = [(each.name, each.support()) for each in own]
    names = {each.name for each in own}
    lacking = f"it needs the linux launcher: {why}" if name == "posix" else "it is for --launcher posix"
    found += [(each.name, Support(Level.NOT_HERE, lacking)) for each in other if each.name not in names]
    for each in custom.names():
        try:
            found.append((each, custom.load(each, _host(settings, name)).support()))
        except ReconcilerError as error:
            found.append((each, Support(Level.NOT_HERE, error.message)))
    return found


def _host(settings: RuntimeSettings, launcher: str) -> Host:
    from reconciler.runtime.isolators.isolator import Host

    return Host(settings.root, settings.runtime_dir, launcher)


def _custom(settings: RuntimeSettings, launcher: str) -> list[Isolator]:
    """Those of other packages that `--isolation` names."""
    from reconciler.runtime.isolators import custom

    if settings.isolation is None:
        return []
    host = _host(settings, launcher)
    return [custom.load(name, host) for name in custom.names() if name in settings.isolation]


def _posix(settings: RuntimeSettings) -> list[Isolator]:
    """All that the posix launcher has of our own, in their fixed order."""
    from reconciler.runtime.isolators.disk_du import DiskIsolator
    from reconciler.runtime.isolators.filesystem import FilesystemPosixIsolator
    from reconciler.runtime.isolators.network_ports import PortsIsolator
    from reconciler.runtime.isolators.rlimits import RlimitsIsolator
    from reconciler.runtime.isolators.volume_sandbox_path import SandboxLinkIsolator

    return [
        FilesystemPosixIsolator(),
        *posix_isolators(),
        SandboxLinkIsolator(),
        DiskIsolator(),
        PortsIsolator(),
        RlimitsIsolator(),
        *_privilege_isolators(settings, limited=False),
    ]


def _linux(settings: RuntimeSettings, host: CgroupMap) -> list[Isolator]:
    """The same of the linux launcher."""
    from reconciler.runtime.isolators.disk_du import DiskIsolator
    from reconciler.runtime.isolators.disk_xfs import XfsIsolator
    from reconciler.runtime.isolators.filesystem import FilesystemLinuxIsolator
    from reconciler.runtime.isolators.namespaces_user import UserNamespaceIsolator, parse_pool
    from reconciler.runtime.isolators.network_ports import PortsIsolator
    from reconciler.runtime.isolators.rlimits import RlimitsIsolator
    from reconciler.runtime.isolators.sysctls import SysctlsIsolator

    return [
        *_of_namespaces(settings),
        UserNamespaceIsolator(settings.runtime_dir, parse_pool(settings.user_ids), settings.owner),
        SysctlsIsolator(),
        FilesystemLinuxIsolator(settings.root, settings.runtime_dir, host.hierarchies),
        *_volume_isolators(settings),
        DiskIsolator(limits=not settings.enabled(XfsIsolator.name)),
        XfsIsolator(settings.root),
        PortsIsolator(),
        RlimitsIsolator(),
        *cgroup_isolators(host),
        *_device_isolators(settings, host),
        *_privilege_isolators(settings, limited=True),
    ]


def _of_namespaces(settings: RuntimeSettings) -> list[Isolator]:
    """Those that judge a spec before it is launched."""
    from reconciler.runtime.isolators.namespaces import NamespacesIsolator
    from reconciler.runtime.isolators.namespaces_user import UserNamespaceIsolator
    from reconciler.runtime.isolators.network import NetworkIsolator
    from reconciler.runtime.network.namespaces import Namespaces
    from reconciler.runtime.network.record import Record

    network = NetworkIsolator(Record(settings.root), network_drivers(settings), Namespaces())
    judged = (UserNamespaceIsolator.name, NetworkIsolator.name)
    left_out = [name for name in judged if not settings.enabled(name)]
    return [NamespacesIsolator(left_out), network]


def network_drivers(settings: RuntimeSettings) -> list[NetworkDriver]:
    """Of two with a network of the same name the first has it."""
    from reconciler.runtime.network import definitions
    from reconciler.runtime.network.bridge import BridgeDriver
    from reconciler.runtime.network.cni import driver as cni
    from reconciler.runtime.network.cni.plugins import Plugins

    configurations = Path(settings.network_cni_config_dir or cni.CONFIGURATIONS)
    plugins = Plugins([Path(each) for each in settings.network_cni_plugins_dir or cni.PLUGINS])
    return [
        BridgeDriver(settings.owner, settings.root, definitions.read_or_go_without(settings.networks)),
        cni.CniDriver(settings.owner, configurations, plugins),
    ]


def _volume_isolators(settings: RuntimeSettings) -> list[Isolator]:
    from reconciler.runtime.isolators.volume_host_path import HostPathIsolator
    from reconciler.runtime.isolators.volume_image import ImageVolumeIsolator
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
        ImageVolumeIsolator(),
    ]


def cgroup_isolators(host: CgroupMap) -> list[Isolator]:
    from reconciler.runtime.isolators.cgroups_cpu import CpuIsolator
    from reconciler.runtime.isolators.cgroups_cpuset import CpusetIsolator
    from reconciler.runtime.isolators.cgroups_hugetlb import HugetlbIsolator
    from reconciler.runtime.isolators.cgroups_io import IoIsolator
    from reconciler.runtime.isolators.cgroups_mem import MemoryIsolator
    from reconciler.runtime.isolators.cgroups_misc import MiscIsolator
    from reconciler.runtime.isolators.cgroups_pids import PidsIsolator
    from reconciler.runtime.isolators.cgroups_pressure import PressureIsolator

    return [
        CpuIsolator(host),
        CpusetIsolator(host),
        MemoryIsolator(host),
        PidsIsolator(host),
        IoIsolator(host),
        HugetlbIsolator(host),
        MiscIsolator(host),
        PressureIsolator(host),
    ]


def posix_isolators() -> list[Isolator]:
    from reconciler.runtime.isolators.posix import PosixCpuIsolator, PosixMemoryIsolator

    return [PosixCpuIsolator(), PosixMemoryIsolator()]


def _device_isolators(settings: RuntimeSettings, host: CgroupMap) -> list[Isolator]:
    """Who gives devices comes before who restricts them to what was given."""
    from reconciler.runtime.isolators.cgroups_devices import DevicesIsolator
    from reconciler.runtime.isolators.gpu_nvidia import NvidiaIsolator
    from reconciler.runtime.isolators.linux_devices import LinuxDevicesIsolator

    nodes, gpus = LinuxDevicesIsolator(), NvidiaIsolator(settings.runtime_dir)
    return [nodes, gpus, DevicesIsolator(host, [nodes, gpus])]


def _privilege_isolators(settings: RuntimeSettings, *, limited: bool) -> list[Isolator]:
    """limited: capabilities can be taken away here; else what an isolator of them would leave is what we hold."""
    from reconciler.runtime.isolators.capabilities import CapabilitiesIsolator, granted, present
    from reconciler.runtime.isolators.nnp import NoNewPrivilegesIsolator
    from reconciler.runtime.isolators.seccomp import SeccompIsolator

    found: list[Isolator] = [CapabilitiesIsolator()] if limited else []
    left = granted if limited and settings.enabled(CapabilitiesIsolator.name) else present
    return [*found, NoNewPrivilegesIsolator(), SeccompIsolator(left)]


def _chosen(available: list[Isolator], settings: RuntimeSettings) -> tuple[list[Isolator], frozenset[str]]:
    from reconciler.runtime.isolators.isolator import Level

    known = [each.name for each in available]
    for name in settings.isolation or ():
        if name not in known and name != DEFAULT:
            there_are = ", ".join([DEFAULT, *known])
            raise Terminal(f"--isolation: no such isolator here: {name}; there are: {there_are}")
    chosen = [each for each in available if settings.enabled(each.name)]
    for each in chosen:
        if each.name in (settings.isolation or ()) and (support := each.support()).level is Level.NOT_HERE:
            raise Terminal(f"--isolation {each.name}: {support.why}")
    return chosen, frozenset(known) - {each.name for each in chosen}


def wrong_options(spec: ContainerSpec) -> list[str]:
    """What is wrong with a spec's options for isolators of our own, whatever host it is for, a sentence each."""
    from reconciler.runtime.isolators import options

    known = _of_our_own()
    return [why for name in spec.isolators if name in known for why in options.faults(spec, known[name])]


@cache
def _of_our_own() -> dict[str, Isolator]:
    from reconciler.runtime.kernel.cgroups import CgroupMap

    nowhere = RuntimeSettings(Path("/"), Path("/"), "")
    return {each.name: each for each in (*_posix(nowhere), *_linux(nowhere, CgroupMap(())))}
