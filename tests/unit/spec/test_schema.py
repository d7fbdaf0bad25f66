"""The JSON Schema and what is looked up in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.spec.schema import describe, document_schema, names


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for item in node.values():
            yield from walk(item)
    if isinstance(node, list):
        for item in node:
            yield from walk(item)


def test_every_field_has_a_description() -> None:
    bare = [name for node in walk(document_schema()) for name, field in node.get("properties", {}).items()
            if "description" not in field]  # fmt: skip
    assert bare == []


def test_every_reference_leads_somewhere_and_nothing_unknown_is_allowed() -> None:
    schema = document_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    references = {node["$ref"].removeprefix("#/$defs/") for node in walk(schema) if "$ref" in node}
    assert references <= schema["$defs"].keys()
    assert all(model["additionalProperties"] is False for model in schema["$defs"].values())


def test_quantities_are_text_with_a_unit_in_the_schema() -> None:
    fields = document_schema()["$defs"]["KillPolicy"]["properties"]
    assert fields["gracePeriod"]["type"] == "string"
    assert fields["gracePeriod"]["default"] == "3s"
    assert document_schema()["$defs"]["Logging"]["properties"]["maxSize"]["default"] == "10Mi"


def test_the_fields_of_a_place_are_known() -> None:
    assert names(()) == ("apiVersion", "kind", "metadata", "spec")
    assert "healthChecks" in names(("spec", "containers", 3))
    assert names(("spec", "env", "A")) == ("fromFile", "secretFile")
    assert names(("spec", "nothing")) == ()


@pytest.mark.parametrize("path", ["healthChecks.http.port", "spec.healthChecks[0].http.port"])
def test_a_field_is_explained_by_its_path(path: str) -> None:
    found = describe(path)
    assert found is not None
    assert (found.path, found.type) == ("spec.healthChecks.http.port", "whole number")


def test_a_field_is_explained_with_what_may_stand_in_it() -> None:
    found = describe("backoff")
    assert found is not None
    first = found.fields[0]
    assert (first.path, first.type, first.default) == ("spec.backoff.initial", "duration", "1s")


def test_no_field_is_explained_by_nothing() -> None:
    assert describe("spec.helthChecks") is None
