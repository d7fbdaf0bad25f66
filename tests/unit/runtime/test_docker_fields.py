"""Every field of the spec is an engine's, the loop's, or refused by `check`: none is passed over in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent.checking import check
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.docker import mapping
from reconciler.runtime.environment import gather
from reconciler.spec.model import ContainerSpec
from reconciler.spec.schema import describe
from tests.unit.loop.values import document

BASE: dict[str, Any] = {"type": "docker", "image": {"reference": "box:1"}, "command": ["sleep", "1"]}
PRIVATE = {"network": "private"}
TMPFS = {"type": "tmpfs", "target": "/t"}

MAPPED: dict[str, dict[str, Any]] = {
    "image.reference": {"image": {"reference": "box:2"}},
    "command": {"command": ["other"]},
    "shell": {"command": None, "shell": "other"},
    "args": {"args": ["-v"]},
    "env": {"env": {"A": "b"}},
    "workingDir": {"workingDir": "below"},
    "user": {"user": "1:1"},
    "tty": {"tty": True},
    "stdin": {"stdin": True},
    "resources.requests.cpus": {"resources": {"requests": {"cpus": 2.0}}},
    "resources.requests.memory": {"resources": {"requests": {"memory": "1Mi"}}},
    "resources.limits.cpus": {"resources": {"limits": {"cpus": 2.0}}},
    "resources.limits.memory": {"resources": {"limits": {"memory": "8Mi"}}},
    "resources.limits.memorySwap": {"resources": {"limits": {"memory": "8Mi", "memorySwap": "9Mi"}}},
    "resources.limits.pids": {"resources": {"limits": {"pids": 9}}},
    "resources.limits.cpuset": {"resources": {"limits": {"cpuset": "0"}}},
    "resources.limits.io": {"resources": {"limits": {"io": {"/dev/sda": {"readBps": "1Mi"}}}}},
    "namespaces.pid": {"namespaces": {"pid": "host"}},
    "namespaces.network": {"namespaces": PRIVATE},
    "namespaces.uts": {"namespaces": {"uts": "private"}},
    "namespaces.ipc": {"namespaces": {"ipc": "host"}},
    "namespaces.cgroup": {"namespaces": {"cgroup": "host"}},
    "namespaces.shmSize": {"namespaces": {"shmSize": "1Mi"}},
    "networks.name": {"namespaces": PRIVATE, "networks": [{"name": "front"}]},
    "networks.ip": {"namespaces": PRIVATE, "networks": [{"name": "front", "ip": "10.9.9.9"}]},
    "ports.host": {"namespaces": PRIVATE, "ports": [{"host": 1, "container": 2}]},
    "ports.container": {"namespaces": PRIVATE, "ports": [{"host": 1, "container": 3}]},
    "ports.protocol": {"namespaces": PRIVATE, "ports": [{"host": 1, "container": 2, "protocol": "udp"}]},
    "ports.hostIP": {"namespaces": PRIVATE, "ports": [{"host": 1, "container": 2, "hostIP": "127.0.0.1"}]},
    "volumes.type": {"volumes": [TMPFS]},
    "volumes.source": {"volumes": [{"type": "hostPath", "source": "/srv", "target": "/t"}]},
    "volumes.target": {"volumes": [{"type": "tmpfs", "target": "/other"}]},
    "volumes.readOnly": {"volumes": [TMPFS | {"readOnly": True}]},
    "volumes.size": {"volumes": [TMPFS | {"size": "1Mi"}]},
    "volumes.mode": {"volumes": [TMPFS | {"mode": "0700"}]},
    "volumes.propagation": {
        "volumes": [{"type": "hostPath", "source": "/srv", "target": "/t", "propagation": "slave"}]
    },
    "security.capabilities": {"security": {"capabilities": {"add": ["SYS_TIME"]}}},
    "security.seccomp": {"security": {"seccomp": "unconfined"}},
    "security.noNewPrivileges": {"security": {"noNewPrivileges": False}},
    "security.readOnlyRootfs": {"security": {"readOnlyRootfs": True}},
    "security.privileged": {"security": {"privileged": True}},
    "hostname": {"hostname": "other"},
    "init": {"init": False},
    "rlimits": {"rlimits": {"core": {"soft": 0, "hard": 0}}},
    "devices.path": {"devices": [{"path": "/dev/null"}]},
    "devices.target": {"devices": [{"path": "/dev/null", "target": "/dev/x"}]},
    "devices.permissions": {"devices": [{"path": "/dev/null", "permissions": "r"}]},
    "sysctls": {"namespaces": PRIVATE, "sysctls": {"net.core.somaxconn": "9"}},
    "logging.maxSize": {"logging": {"maxSize": "1Mi"}},
    "logging.maxFiles": {"logging": {"maxFiles": 2}},
    "killPolicy.signal": {"killPolicy": {"signal": "SIGINT"}},
    "killPolicy.gracePeriod": {"killPolicy": {"gracePeriod": "9s"}},
    "docker.dns": {"docker": {"dns": ["10.0.0.1"]}},
    "docker.dnsSearch": {"docker": {"dnsSearch": ["example"]}},
    "docker.dnsOptions": {"docker": {"dnsOptions": ["ndots:1"]}},
    "docker.extraHosts": {"docker": {"extraHosts": {"db": "10.0.0.2"}}},
    "docker.domainname": {"docker": {"domainname": "example"}},
    "docker.groupAdd": {"docker": {"groupAdd": ["audio"]}},
    "docker.cgroupParent": {"docker": {"cgroupParent": "/front"}},
    "docker.memorySwappiness": {"docker": {"memorySwappiness": 0}},
    "docker.oomScoreAdj": {"docker": {"oomScoreAdj": -5}},
    "docker.blkioWeight": {"docker": {"blkioWeight": 10}},
    "docker.deviceCgroupRules": {"docker": {"deviceCgroupRules": ["c 1:3 r"]}},
    "docker.securityOptions": {"docker": {"securityOptions": ["label=disable"]}},
    "docker.storageOptions": {"docker": {"storageOptions": {"size": "1G"}}},
    "docker.runtime": {"docker": {"runtime": "runc"}},
    "docker.logDriver": {"docker": {"logDriver": "local"}},
    "docker.logOptions": {"docker": {"logOptions": {"tag": "x"}}},
}
"""An example of each that differs from the base, or from its neighbour, in what the engine is told."""

REFUSED: dict[str, dict[str, Any]] = {
    "rootfs": {"image": None, "rootfs": "/srv/tree"},
    "resources.requests.memorySwap": {"resources": {"requests": {"memory": "1Mi", "memorySwap": "2Mi"}}},
    "resources.requests.pids": {"resources": {"requests": {"pids": 1}}},
    "resources.requests.disk": {"resources": {"requests": {"disk": "1Mi"}}},
    "resources.requests.io": {"resources": {"requests": {"io": {"/dev/sda": {"readBps": "1Mi"}}}}},
    "resources.requests.cpuset": {"resources": {"requests": {"cpuset": "0"}}},
    "resources.requests.hugepages": {"resources": {"requests": {"hugepages": {"2Mi": "2Mi"}}}},
    "resources.requests.network": {"resources": {"requests": {"network": {"egress": "1Mi"}}}},
    "resources.limits.network": {"resources": {"limits": {"network": {"ingress": "1Mi"}}}},
    "resources.limits.disk": {"resources": {"limits": {"disk": "1Mi"}}},
    "resources.limits.hugepages": {"resources": {"limits": {"hugepages": {"2Mi": "2Mi"}}}},
    "namespaces.user": {"namespaces": {"user": "private"}},
    "volumes.scope": {"volumes": [{"type": "sandboxPath", "source": "x", "target": "/y", "scope": "self"}]},
    "volumes.pullPolicy": {"volumes": [{"type": "image", "source": "x", "target": "/y", "pullPolicy": "Never"}]},
    "containers": {"containers": [{"name": "a", "command": ["sleep", "1"]}]},
    "initContainers": {"initContainers": [{"name": "a", "command": ["sleep", "1"]}]},
    "class": {"class": "debug", "parent": "other", "image": None, "restartPolicy": "Never"},
    "isolators": {"isolators": {"disk/du": {"x": 1}}},
}

ELSEWHERE = {
    "type": "who takes it",
    "image.pullPolicy": "asked for before the launch",
    "image.healthCheck": "the loop",
    "executor": "refused, or taken, by what `executor` says",
    "uris": "fetched into the sandbox before it is made",
    "namespaces.mount": "has one value",
    "volumes.restartOn": "the loop",
    "healthChecks": "the loop",
    "restartPolicy": "the loop",
    "backoff": "the loop",
    "maxCompletionTime": "the loop",
    "dependsOn": "the loop",
    "parent": "goes with class",
    "nodeSelector": "the loop",
    "suspend": "the loop",
    "prune": "the loop",
}


def spec(**written: Any) -> ContainerSpec:
    given = {**BASE, **written}
    return ContainerSpec.model_validate(
        {"name": "web", **{key: value for key, value in given.items() if value is not None}}
    )


def body(**written: Any) -> dict[str, Any]:
    config = ContainerConfig(spec(**written), "1:abc", Path("/state/web/sandbox"), Path("/state/web/logs"))
    return mapping.body("owner", config, gather(config).plain, Path("/run/reconciler/secrets/web"))


def paths() -> list[str]:
    """Of each field of a container; below one that is named as a whole, no further."""
    whole = {"env", "uris", "executor", "healthChecks", "backoff", "dependsOn", "containers", "initContainers"}
    whole |= {"rlimits", "security.capabilities", "resources.limits.io", "resources.requests.io"}
    whole |= {"resources.limits.network", "resources.requests.network"}
    found: list[str] = []
    waiting = [field.path.removeprefix("spec.") for field in describe("spec").fields]  # type: ignore[union-attr]
    while waiting:
        path = waiting.pop(0)
        below = describe(f"spec.{path}")
        fields = [] if below is None or path in whole else below.fields
        waiting += [field.path.removeprefix("spec.") for field in fields]
        found += [] if fields else [path]
    return found


def test_each_field_is_in_one_list() -> None:
    lists = [*MAPPED, *REFUSED, *ELSEWHERE]
    assert sorted(lists) == sorted(paths()) and len(set(lists)) == len(lists)


@pytest.mark.parametrize("field", MAPPED)
def test_what_is_mapped_reaches_the_engine(field: str) -> None:
    group = field.partition(".")[0]
    others = [body(**MAPPED[other]) for other in MAPPED if other != field and other.partition(".")[0] == group]
    assert body(**MAPPED[field]) not in [body(), *others]


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_refused_is_refused_by_check_with_its_place(tmp_path: Path, field: str) -> None:
    file = tmp_path / "web.yaml"
    written = {key: value for key, value in {**BASE, **REFUSED[field]}.items() if value is not None}
    lines = [f"{key}: {json.dumps(value)}" for key, value in written.items()]
    file.write_text(document("web", "\n".join(lines)))
    faults = check([file]).faults
    place = "containers" if field in ("containers", "initContainers") else f"spec.{field.partition('.')[0]}"
    assert [fault for fault in faults if place in fault], faults


def test_the_page_has_every_option_of_an_engine() -> None:
    page = (Path(__file__).parents[3] / "docs" / "docker.md").read_text()
    assert [field for field in MAPPED if field.startswith("docker.") and f"`{field[7:]}`" not in page] == []


def test_further_networks_are_joined_before_the_start() -> None:
    nets = spec(namespaces=PRIVATE, networks=[{"name": "front"}, {"name": "back", "ip": "10.9.9.9"}])
    assert [each.name for each in mapping.joined(nets)] == ["back"]
