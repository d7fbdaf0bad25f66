"""The spec's JSON Schema (2020-12), and look-ups in it: field names for hints, texts for `explain`.

Invariant: everything here is derived from the models; no field is described twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from reconciler.spec.document import ContainerDocument
from reconciler.spec.nodes import Path
from reconciler.spec.quantities import DURATION_PATTERN, SIZE_PATTERN, format_duration, format_size

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """One field for people. fields: what may stand in it; default: as written, "" when there is none."""

    path: str
    type: str
    default: str
    description: str
    fields: tuple[FieldDoc, ...] = ()


@cache
def _schema() -> dict[str, Any]:
    schema = ContainerDocument.model_json_schema(by_alias=True, mode="validation")
    _write_defaults(schema)
    return {"$schema": DIALECT, **schema}


def document_schema() -> dict[str, Any]:
    """The schema of one document; editors check and complete spec files with it."""
    return _schema()


def _write_defaults(node: Any) -> None:
    """Defaults of sizes and durations as a person would write them."""
    if isinstance(node, list):
        for item in node:
            _write_defaults(item)
    if isinstance(node, dict):
        default = node.get("default")
        if isinstance(default, int | float) and not isinstance(default, bool):
            if node.get("pattern") == SIZE_PATTERN:
                node["default"] = format_size(int(default))
            elif node.get("pattern") == DURATION_PATTERN:
                node["default"] = format_duration(default)
        for item in node.values():
            _write_defaults(item)


def _resolve(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The alternatives of a schema node, references followed, null left out."""
    if "$ref" in node:
        yield from _resolve(_schema()["$defs"][node["$ref"].rpartition("/")[2]])
    elif "anyOf" in node or "oneOf" in node:
        for option in node.get("anyOf", node.get("oneOf", ())):
            yield from _resolve(option)
    elif node.get("type") != "null":
        yield node


def _below(nodes: list[dict[str, Any]], key: str | int) -> list[dict[str, Any]]:
    found = []
    for node in nodes:
        for option in _resolve(node):
            if isinstance(key, int):
                child = option.get("items")
            else:
                child = option.get("properties", {}).get(key)
                if child is None:
                    child = option.get("additionalProperties")
            if isinstance(child, dict):
                found.append(child)
    return found


def names(path: Path) -> tuple[str, ...]:
    """The fields that may stand at a path of the document, in the models' order."""
    nodes = [_schema()]
    for key in path:
        nodes = _below(nodes, key)
    found = dict.fromkeys(name for node in nodes for option in _resolve(node) for name in option.get("properties", ()))
    return tuple(found)


def describe(path: str) -> FieldDoc | None:
    """A field by its dotted path, "spec." and list indexes may be left out: "healthChecks.http.port".
    "" is the document. None: there is no such field."""
    keys = [key for key in re.sub(r"\[[0-9]*\]", "", path).split(".") if key]
    for start in ([], ["spec"]):
        nodes = [_schema()]
        for key in [*start, *keys]:
            nodes = _below(_items(nodes), key)
        if nodes:
            return _doc(".".join([*start, *keys]), nodes[0], deep=True)
    return None


def _items(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lists stand for their items, as far as paths for people go."""
    inner = [option["items"] for node in nodes for option in _resolve(node) if isinstance(option.get("items"), dict)]
    return inner or nodes


def _doc(path: str, node: dict[str, Any], *, deep: bool = False) -> FieldDoc:
    fields: list[FieldDoc] = []
    if deep:
        for option in [option for item in _items([node]) for option in _resolve(item)]:
            for name, child in option.get("properties", {}).items():
                fields.append(_doc(f"{path}.{name}" if path else name, child))
    options = list(_resolve(node))
    description = node.get("description") or next((o["description"] for o in options if "description" in o), "")
    return FieldDoc(path, _type(node), _default(node), description, tuple(fields))


def _default(node: dict[str, Any]) -> str:
    default = node.get("default")
    if default is None or default == [] or default == {}:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _type(node: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_type_of(option) for option in _resolve(node))) or "anything"


def _type_of(option: dict[str, Any]) -> str:
    if "enum" in option or "const" in option:
        return "one of " + ", ".join(str(value) for value in option.get("enum", [option.get("const")]))
    if option.get("pattern") in (SIZE_PATTERN, DURATION_PATTERN):
        return "size" if option["pattern"] == SIZE_PATTERN else "duration"
    kind = option.get("type")
    if kind == "array":
        return f"list of {_type(option.get('items', {}))}"
    if kind == "object" and isinstance(option.get("additionalProperties"), dict):
        return f"map of {_type(option['additionalProperties'])}"
    return {"boolean": "true or false", "integer": "whole number", "object": "map"}.get(str(kind), str(kind or "any"))
