"""What nothing can carry out is refused, each with its path; everything else is not."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.spec.model import ContainerSpec
from reconciler.spec.support import unsupported


def fields(**written: Any) -> list[str]:
    spec = ContainerSpec.model_validate({"name": "web", **written})
    return [field for field, _ in unsupported(spec)]


@pytest.mark.parametrize(
    "written",
    [
        {"command": ["a"], "args": ["b"], "env": {"A": "b"}, "workingDir": "/", "user": "1"},
        {"shell": "a", "hostname": "x", "init": False, "killPolicy": {"signal": "SIGINT"}},
        {"resources": {"requests": {"memory": 1}, "limits": {"cpus": 1, "memory": 1, "pids": 1, "disk": 1}}},
        {"resources": {"limits": {"memory": 1, "memorySwap": 1}}},
        {"isolators": {"disk/du": {"enforce": True}}},
        {"namespaces": {"pid": "host", "ipc": "private", "shmSize": 1, "network": "private", "user": "host"}},
        {"shell": "a", "rootfs": "/srv/tree", "security": {"readOnlyRootfs": True}},
        {"security": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "seccomp": "/etc/strict.json"}},
        {"volumes": [{"type": "image", "source": "x", "target": "/x"}]},
        {"shell": "a", "healthChecks": [{"tcp": {"port": 1}}]},
        {"security": {"noNewPrivileges": False, "privileged": True}},
        {"env": {"A": {"secretFile": "/x"}}, "volumes": [{"type": "tmpfs", "target": "/x"}]},
        {"rlimits": {"core": {"soft": 0, "hard": 0}}, "sysctls": {"kernel.shmmax": "1"}},
        {
            "restartPolicy": "Never",
            "backoff": {"maxRetries": 1},
            "labels": {"a": "b"},
            "prune": "auto",
            "suspend": True,
        },
    ],
)
def test_what_can_be_given_is_supported(written: dict[str, Any]) -> None:
    assert fields(**written) == []


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ({"resources": {"requests": {"disk": 1}}}, "resources.requests.disk"),
        ({"resources": {"requests": {"pids": 1}}}, "resources.requests.pids"),
        ({"resources": {"requests": {"network": {"egress": 1}}}}, "resources.requests.network"),
        ({"resources": {"requests": {"hugepages": {"2Mi": 1}}}}, "resources.requests.hugepages"),
    ],
)
def test_what_cannot_be_set_aside_is_named(written: dict[str, Any], field: str) -> None:
    assert fields(**written) == [field]
