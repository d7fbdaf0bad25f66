"""The namespace table, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.spec.model import ContainerSpec
from reconciler.spec.namespaces import TABLE, Sharing, effective, explicit, violations


def spec(name: str = "web", **fields: Any) -> ContainerSpec:
    return ContainerSpec.model_validate({"name": name, **fields})


def said(of: ContainerSpec) -> dict[str, str]:
    return {kind: sharing.value for kind, sharing in effective(of).items()}


def test_the_defaults_of_a_top_level_container() -> None:
    shared = {"network": "host", "uts": "host", "user": "host"}
    assert said(spec()) == {"mount": "private", "pid": "private", "ipc": "private", "cgroup": "private", **shared}


def test_the_defaults_of_a_nested_container() -> None:
    shared = {"network": "parent", "uts": "parent", "user": "parent", "cgroup": "parent"}
    assert said(spec("shop.web")) == {"mount": "private", "pid": "private", "ipc": "private", **shared}


@pytest.mark.parametrize("fields", [{"hostname": "x"}, {"namespaces": {"network": "private"}}])
def test_a_host_name_or_a_network_of_its_own_gives_it_a_uts_namespace(fields: dict[str, Any]) -> None:
    assert effective(spec(**fields))["uts"] is Sharing.PRIVATE


def test_a_private_network_can_keep_the_hosts_uts_namespace() -> None:
    assert effective(spec(namespaces={"network": "private", "uts": "host"}))["uts"] is Sharing.HOST


def test_a_debug_container_enters_all_of_its_parents() -> None:
    assert set(effective(spec("shop.web.sh", **{"class": "debug", "parent": "shop.web"})).values()) == {Sharing.PARENT}


@pytest.mark.parametrize("kind", TABLE)
@pytest.mark.parametrize("value", ["private", "host", "parent"])
@pytest.mark.parametrize("name", ["web", "shop.web"])
def test_exactly_what_a_row_allows_is_accepted(kind: str, value: str, name: str) -> None:
    row = TABLE[kind].nested if "." in name else TABLE[kind].top
    refused = [field for field, _ in violations(spec(name, namespaces={kind: value}))]
    assert refused == ([] if Sharing(value) in row.allowed else [f"namespaces.{kind}"])


def test_a_spec_names_what_it_writes_and_what_that_needs() -> None:
    assert explicit(spec()) == frozenset()
    assert explicit(spec(namespaces={"pid": "host"}, hostname="x")) == {"pid", "uts"}
    assert explicit(spec(namespaces={"shmSize": 4096})) == {"ipc"}


def test_a_host_name_on_the_hosts_uts_namespace_is_refused() -> None:
    found = violations(spec(hostname="x", namespaces={"uts": "host"}))
    assert found == [("namespaces.uts", "host is not possible with a hostname: it would rename the host")]
