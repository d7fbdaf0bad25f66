"""What a spec is in the words of a Docker Engine (API 1.41, Docker 20.10): pure.

    body      of POST /containers/create          change    of POST /containers/ID/update, amounts that alter in place
    joined    networks beyond the first, which a container is connected to before it starts

Deliberate differences from `docker run`: the network is the host's unless the spec says otherwise, no_new_privs is on,
no restart policy (the loop restarts), no check of the image's (the loop makes it), swap is not limited along with
memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.runtime.docker.image_names import name_of
from reconciler.runtime.docker.naming import DIGEST, HEALTH, NAME, OWNER
from reconciler.runtime.docker.refusals import SANDBOX
from reconciler.runtime.isolators.cgroups_cpu import PERIOD, quota, shares
from reconciler.spec.namespaces import Sharing, effective

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.spec.engine import DockerOptions
    from reconciler.spec.model import ContainerSpec, NetworkAttachment, ResourceAmounts, Volume

Json = dict[str, Any]


def labels(owner: str, config: ContainerConfig) -> dict[str, str]:
    found = {**config.spec.labels, OWNER: owner, NAME: config.name, DIGEST: config.digest}
    return found | ({HEALTH: json.dumps(config.health_checks)} if config.health_checks else {})


def body(
    owner: str, config: ContainerConfig, env: Mapping[str, str], secrets: Path, profile: str | None = None
) -> Json:
    """Of a spec that has all from its image already. env: its variables, read; secrets: directory with a file for each
    volume that is one, by number; profile: the text of the seccomp profile whose path the spec gives."""
    spec = config.spec
    table = effective(spec)
    made: Json = {
        "Image": name_of(spec.image.reference if spec.image else ""),
        "Labels": labels(owner, config),
        "Env": [f"{name}={value}" for name, value in {"MESOS_SANDBOX": SANDBOX, **env}.items()],
        "Tty": spec.tty,
        "OpenStdin": spec.stdin or spec.tty,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": spec.kill_policy.signal,
        "StopTimeout": math.ceil(spec.kill_policy.grace_period),
        "HostConfig": _host(config, table, secrets, profile),
    }
    made |= _argv(spec)
    directory = spec.working_dir or SANDBOX
    made["WorkingDir"] = directory if directory.startswith("/") else f"{SANDBOX}/{directory}"
    if spec.user is not None:
        made["User"] = spec.user
    if table["uts"] is Sharing.PRIVATE:
        made["Hostname"] = spec.hostname or spec.label
    if spec.docker.domainname is not None:
        made["Domainname"] = spec.docker.domainname
    if spec.ports:
        made["ExposedPorts"] = {f"{port.container}/{port.protocol}": {} for port in spec.ports}
    if spec.networks:
        made["NetworkingConfig"] = {"EndpointsConfig": {spec.networks[0].name: endpoint(spec.networks[0])}}
    return made


def joined(spec: ContainerSpec) -> tuple[NetworkAttachment, ...]:
    """An engine makes a container in one network."""
    return spec.networks[1:]


def endpoint(network: NetworkAttachment) -> Json:
    family = "IPv6Address" if ":" in (network.ip or "") else "IPv4Address"
    return {"IPAMConfig": {family: network.ip}} if network.ip else {}


def _argv(spec: ContainerSpec) -> Json:
    """`command` takes the place of the image's entrypoint, and with it of its command."""
    if spec.shell is not None:
        return {"Entrypoint": ["/bin/sh", "-c", spec.shell], "Cmd": ["sh", *spec.args] if spec.args else []}
    if spec.command is not None:
        return {"Entrypoint": [spec.command[0]], "Cmd": [*spec.command[1:], *spec.args]}
    return {"Cmd": list(spec.args)} if spec.args else {}


def _host(config: ContainerConfig, table: Mapping[str, Sharing], secrets: Path, profile: str | None) -> Json:
    spec, security = config.spec, config.spec.security
    made: Json = {
        "Init": spec.init,
        "RestartPolicy": {"Name": "no"},
        "NetworkMode": _network(spec, table),
        "PidMode": "host" if table["pid"] is Sharing.HOST else "",
        "IpcMode": "host" if table["ipc"] is Sharing.HOST else "private",
        "CgroupnsMode": table["cgroup"].value,
        "UTSMode": "host" if table["uts"] is Sharing.HOST else "",
        "ReadonlyRootfs": security.read_only_rootfs,
        "Privileged": security.privileged,
        "CapAdd": list(security.capabilities.add),
        "CapDrop": list(security.capabilities.drop),
        "SecurityOpt": _security(spec, profile),
        "Ulimits": [
            {"Name": name, "Soft": _number(each.soft), "Hard": _number(each.hard)}
            for name, each in sorted(spec.rlimits.items())
        ],
        "Devices": [
            {
                "PathOnHost": each.path,
                "PathInContainer": each.target or each.path,
                "CgroupPermissions": each.permissions,
            }
            for each in spec.devices
        ],
        "Sysctls": dict(spec.sysctls),
        "Mounts": [_bind(str(config.sandbox), SANDBOX), *_mounts(config, secrets)],
        "LogConfig": _log(spec),
        **_amounts(spec.resources.requests, spec.resources.limits, created=True),
        **_rates(spec.resources.limits),
        **_options(spec.docker),
    }
    if spec.namespaces.shm_size is not None:
        made["ShmSize"] = spec.namespaces.shm_size
    if spec.ports:
        made["PortBindings"] = _bindings(spec)
    return made


def _log(spec: ContainerSpec) -> Json:
    given = spec.docker
    bounds = {"max-size": str(spec.logging.max_size), "max-file": str(spec.logging.max_files)}
    config = given.log_options if given.log_driver is not None else {**bounds, **given.log_options}
    return {"Type": given.log_driver or "json-file", "Config": dict(config)}


def _rates(limits: ResourceAmounts) -> Json:
    kinds = {
        "BlkioDeviceReadBps": "read_bps",
        "BlkioDeviceWriteBps": "write_bps",
        "BlkioDeviceReadIOps": "read_iops",
        "BlkioDeviceWriteIOps": "write_iops",
    }
    found = {
        kind: [{"Path": path, "Rate": rate} for path, each in limits.io.items() if (rate := getattr(each, field))]
        for kind, field in kinds.items()
    }
    return {kind: rates for kind, rates in found.items() if rates}


def _options(given: DockerOptions) -> Json:
    """What is not given is left to the engine."""
    found = {
        "Dns": list(given.dns),
        "DnsSearch": list(given.dns_search),
        "DnsOptions": list(given.dns_options),
        "ExtraHosts": [f"{name}:{address}" for name, address in given.extra_hosts.items()],
        "GroupAdd": list(given.group_add),
        "CgroupParent": given.cgroup_parent,
        "MemorySwappiness": given.memory_swappiness,
        "OomScoreAdj": given.oom_score_adj,
        "BlkioWeight": given.blkio_weight,
        "DeviceCgroupRules": list(given.device_cgroup_rules),
        "StorageOpt": dict(given.storage_options),
        "Runtime": given.runtime,
    }
    return {key: value for key, value in found.items() if value not in (None, [], {})}


def _network(spec: ContainerSpec, table: Mapping[str, Sharing]) -> str:
    if table["network"] is Sharing.HOST:
        return "host"
    if spec.networks:
        return spec.networks[0].name
    return "bridge" if spec.ports else "none"


def _bindings(spec: ContainerSpec) -> Json:
    found: dict[str, list[Json]] = {}
    for port in spec.ports:
        binding = {"HostPort": str(port.host), "HostIp": port.host_ip or ""}
        found.setdefault(f"{port.container}/{port.protocol}", []).append(binding)
    return found


def _security(spec: ContainerSpec, profile: str | None) -> list[str]:
    """An engine takes a profile's text, not its path."""
    security = spec.security
    options = list(spec.docker.security_options)
    if security.no_new_privileges and not security.privileged:
        options.append("no-new-privileges")
    if security.seccomp == "unconfined":
        return [*options, "seccomp=unconfined"]
    return [*options, f"seccomp={profile}"] if profile is not None else options


def _number(value: int | str) -> int:
    return -1 if isinstance(value, str) else value


def _bind(source: str, target: str, *, read_only: bool = False, propagation: str = "rprivate") -> Json:
    options = {"Propagation": propagation}
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only, "BindOptions": options}


def _mounts(config: ContainerConfig, secrets: Path) -> Iterator[Json]:
    for number, volume in enumerate(config.spec.volumes):
        target = volume.target if volume.target.startswith("/") else f"{SANDBOX}/{volume.target}"
        if volume.type == "secret":
            yield _bind(str(secrets / str(number)), target, read_only=True)
        else:
            yield _mount(config.base, volume, target)


def _mount(base: Path, volume: Volume, target: str) -> Json:
    if volume.type == "tmpfs":
        options: Json = {} if volume.size is None else {"SizeBytes": volume.size}
        options |= {} if volume.mode is None else {"Mode": int(volume.mode, 8)}
        return {"Type": "tmpfs", "Target": target, "ReadOnly": volume.read_only, "TmpfsOptions": options}
    if volume.type == "volume":
        return {"Type": "volume", "Source": volume.source, "Target": target, "ReadOnly": volume.read_only}
    return _bind(
        str(base / (volume.source or "")),
        target,
        read_only=volume.read_only,
        propagation=f"r{volume.propagation}",
    )


def _amounts(requests: ResourceAmounts, limits: ResourceAmounts, *, created: bool) -> Json:
    """created: what is not given is left out; else it is taken back, memory apart, whose limit an engine keeps."""
    cap = quota(limits.cpus)
    found: Json = {"CpuShares": shares(requests.cpus), "CpuPeriod": PERIOD, "CpuQuota": -1 if cap is None else cap}
    found["MemoryReservation"] = requests.memory or 0
    if limits.memory is not None:
        found |= {"Memory": limits.memory, "MemorySwap": limits.memory_swap or -1}
    if limits.pids is not None or not created:
        found["PidsLimit"] = limits.pids or -1
    if limits.cpuset is not None:
        found["CpusetCpus"] = limits.cpuset
    return found


def change(requests: ResourceAmounts, limits: ResourceAmounts) -> Json:
    return _amounts(requests, limits, created=False)
