"""What every runtime here is given alike: a busybox root file system, and one description of the container around it.

    ours   a spec                         runc, crun   the OCI configuration that says the same

Namespaces mount, pid, ipc and cgroup; the mounts of `filesystem/linux`; memory, pids and CPU limits; Docker's
capabilities; no_new_privs; the system call filter of `reconciler/runtime/seccomp/default.json`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reconciler.runtime.isolators.capabilities import DEFAULT as CAPABILITIES
from reconciler.runtime.isolators.filesystem_rootfs import _PROTECTED, SANDBOX, SHM_SIZE, masked_paths
from reconciler.runtime.isolators.seccomp import DEFAULT as PROFILE

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
BUSYBOX = "/bin/busybox"
BELL = "bell"  # below the root file system, so that whoever is confined to it can ring
MEMORY, PIDS, CPUS, PERIOD = 64 << 20, 64, 1, 100_000
LIMITS = {"memory": "64Mi", "pids": PIDS, "cpus": CPUS}
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def make_rootfs(path: Path) -> None:
    for directory in ("bin", "dev", "etc", "proc", "sys", "tmp", SANDBOX.strip("/")):
        (path / directory).mkdir(parents=True)
    shutil.copy(BUSYBOX, path / "bin" / "busybox")
    for applet in ("sh", "sleep"):
        (path / "bin" / applet).symlink_to("busybox")


def spec(rootfs: Path, argv: list[str]) -> dict[str, Any]:
    return {
        "rootfs": str(rootfs),
        "command": argv,
        "resources": {"limits": LIMITS},
        "restartPolicy": "Never",
        "killPolicy": {"signal": "SIGKILL"},
    }


def oci(rootfs: Path, sandbox: Path, argv: list[str], cgroup: str, *, limits: bool, native: bool) -> dict[str, Any]:
    """limits: give those too (where the runtime has the controllers). native: a filter for this architecture only."""
    capabilities = [f"CAP_{name}" for name in sorted(CAPABILITIES)]
    mounts = [
        _mount("/proc", "proc", "nosuid", "nodev", "noexec"),
        _mount("/sys", "sysfs", "nosuid", "nodev", "noexec", "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "nosuid", "nodev", "noexec", "ro"),
        _mount("/dev", "tmpfs", "nosuid", "mode=755", "size=64m"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        _mount("/dev/shm", "tmpfs", "nosuid", "nodev", "noexec", "mode=1777", f"size={SHM_SIZE}"),
        _mount("/dev/mqueue", "mqueue", "nosuid", "nodev", "noexec"),
        {"destination": SANDBOX, "type": "bind", "source": str(sandbox), "options": ["bind", "nodev"]},
    ]
    linux: dict[str, Any] = {
        "cgroupsPath": cgroup,
        "namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "cgroup")],
        "maskedPaths": list(masked_paths()),
        "readonlyPaths": list(_PROTECTED),
        "seccomp": _filter(json.loads(PROFILE.read_bytes()), set(capabilities), native=native),
    }
    if limits:
        linux["resources"] = {
            "memory": {"limit": MEMORY},
            "pids": {"limit": PIDS},
            "cpu": {"quota": CPUS * PERIOD, "period": PERIOD},
        }
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(rootfs), "readonly": False},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": argv,
            "env": [f"{name}={value}" for name, value in ENV.items()],
            "cwd": SANDBOX,
            "noNewPrivileges": True,
            "capabilities": {kind: capabilities for kind in ("bounding", "effective", "permitted")},
        },
        "mounts": mounts,
        "linux": linux,
    }


def _mount(target: str, fstype: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": fstype, "source": fstype, "options": list(options)}


def _filter(profile: Mapping[str, Any], capabilities: set[str], *, native: bool) -> dict[str, Any]:
    """As moby does it (profiles/seccomp): rules that do not count for these capabilities, this machine and this kernel
    are left out, and the architectures are those that the machine can run."""
    machine, kernel = os.uname().machine, tuple(int(part) for part in os.uname().release.split(".")[:2])
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)

    def counts(rule: Mapping[str, Any]) -> bool:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        minimum = rule.get("minKernel") or includes.get("minKernel") or "0.0"
        return (
            kernel >= tuple(int(part) for part in minimum.split("."))
            and capabilities.issuperset(includes.get("caps") or ())
            and capabilities.isdisjoint(excludes.get("caps") or ())
            and arch in (includes.get("arches") or [arch])
            and arch not in (excludes.get("arches") or ())
        )

    keep = ("names", "action", "errnoRet", "args")
    chosen: Iterable[Mapping[str, Any]] = filter(counts, profile["syscalls"])
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": [] if native else list(_ARCHITECTURES.get(machine, ())),
        "syscalls": [{key: rule[key] for key in keep if rule.get(key) is not None} for rule in chosen],
    }
