"""What a change does: the table of the documentation, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.spec.changes import compare
from reconciler.spec.model import ContainerSpec
from reconciler.states import ChangeClass


def spec(**fields: Any) -> ContainerSpec:
    return ContainerSpec.model_validate({"name": "web", "command": ["run"], **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": {"a": "b"}},
        {"annotations": {"a": "b"}},
        {"restartPolicy": "Never"},
        {"backoff": {"initial": 2.0}},
        {"healthChecks": [{"tcp": {"port": 1}}]},
        {"killPolicy": {"signal": "SIGINT"}},
        {"resources": {"limits": {"memory": 1}}},
        {"resources": {"requests": {"cpus": 2.0}}},
        {"suspend": True},
        {"prune": "never"},
        {"nodeSelector": {"a": "b"}},
        {"dependsOn": [{"container": "db"}]},
        {"maxCompletionTime": 90.0},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_nothing_restarts_for(fields: dict[str, Any]) -> None:
    assert {change.change for change in compare(spec(), spec(**fields))} == {ChangeClass.LIVE}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"command": ["run", "2"]}, "command changed: [run] → [run, 2]"),
        ({"env": {"A": "1"}}, "env.A changed: not set → 1"),
        ({"namespaces": {"pid": "host"}}, "namespaces.pid changed: not set → host"),
        ({"namespaces": {"shmSize": 2**20}}, "namespaces.shmSize changed: not set → 1Mi"),
        ({"tty": True}, "tty changed: false → true"),
        ({"image": {"reference": "x"}}, "image changed: not set → {reference: x}"),
        ({"volumes": [{"type": "tmpfs", "target": "/t"}]}, "volumes changed: [] → [{type: tmpfs, target: /t}]"),
        ({"uris": [{"uri": "file:///x"}]}, "uris changed: [] → [{uri: file:///x}]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_restart_is_needed_for(fields: dict[str, Any], told: str) -> None:
    changes = compare(spec(), spec(**fields))
    assert [(str(change), change.change) for change in changes] == [(told, ChangeClass.RESTART)]


def test_both_figures_of_a_limit_are_told() -> None:
    old = spec(resources={"limits": {"memory": 256 * 2**20, "pids": 5}})
    new = spec(resources={"limits": {"memory": 2**30, "cpus": 0.5}})
    assert [str(change) for change in compare(old, new)] == [
        "resources.limits.cpus changed: not set → 0.5",
        "resources.limits.memory changed: 256Mi → 1Gi",
        "resources.limits.pids changed: 5 → not set",
    ]


def test_an_engine_cannot_take_a_memory_limit_away() -> None:
    limited = spec(type="docker", resources={"limits": {"memory": 2**20}})
    assert [change.change for change in compare(limited, spec(type="docker"))] == [ChangeClass.RESTART]
    assert [change.change for change in compare(spec(type="docker"), limited)] == [ChangeClass.LIVE]


def test_the_order_of_capabilities_is_no_change() -> None:
    one = spec(security={"capabilities": {"add": ["KILL", "CHOWN"]}})
    other = spec(security={"capabilities": {"add": ["CHOWN", "KILL"]}})
    assert compare(one, other) == ()
