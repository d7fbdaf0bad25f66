"""The document people write, and its flattening into ContainerSpecs.

Invariant: flattening loses nothing and decides nothing: a parent comes before its nested
containers, init containers before the others and in their order; every flat container remembers
the path at which it was written, so that any finding about it has a place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, StrictStr

from reconciler.spec.kinds import Label, Part, Text
from reconciler.spec.model import ContainerSpec, Dependency, Settings
from reconciler.spec.nodes import Path

API_VERSION = "reconciler/v1"
KIND = "Container"
MAX_NESTING = 16
MAX_NAME = 200
"""A full name is one component of paths on disk, with room for a suffix."""


class Tree(Settings):
    """A container with what is nested in it."""

    containers: tuple[Nested, ...] = Field((), description="Containers nested in this one.")
    init_containers: tuple[Nested, ...] = Field(
        (), description="Nested containers that run to completion, one after the other, before the rest start."
    )


class Nested(Tree):
    """A container nested in another one: the same fields, and a name."""

    name: Label = Field(description="The container's name among its siblings, a DNS label.")


class Metadata(Part):
    """What names and describes the container."""

    name: Label = Field(description="The container's name, a DNS label; its identity.")
    labels: dict[Text, StrictStr] = Field(default_factory=dict, description="For people and selectors; no restart.")
    annotations: dict[Text, StrictStr] = Field(default_factory=dict, description="For people and tools; no restart.")


class ContainerDocument(Part):
    """One document of a spec file."""

    api_version: Literal["reconciler/v1"] = Field(description="Always reconciler/v1.")
    kind: Literal["Container"] = Field(description="Always Container.")
    metadata: Metadata = Field(description="The container's name, and what people say of it.")
    spec: Tree = Field(description="The container and what is nested in it.")


@dataclass(frozen=True, slots=True)
class Placed:
    """A flat container and the path of its fields in the document."""

    spec: ContainerSpec
    path: Path


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the document as a whole makes impossible."""

    path: Path
    message: str
    hint: str = ""


SHARED_FIELDS = tuple(Settings.model_fields)


def flatten(document: ContainerDocument) -> tuple[tuple[Placed, ...], tuple[Finding, ...]]:
    """The containers, parent first, and what is wrong with how they are put together."""
    spec, metadata = document.spec, document.metadata
    findings: list[Finding] = []
    name = metadata.name
    if spec.class_ == "debug" and spec.debug_parent is not None:
        name = f"{spec.debug_parent}.{metadata.name}"
    top = ContainerSpec(
        name=name, labels=metadata.labels, annotations=metadata.annotations, **_shared(spec, spec.type, ())
    )
    placed = [Placed(top, ("spec",)), *_nested(spec, name, spec.type, ("spec",), 1, findings, ())]
    if spec.class_ == "debug" and (spec.containers or spec.init_containers):
        findings.append(Finding(("spec", "class"), "a debug container has nothing nested in it"))
    return tuple(placed), tuple(findings)


Scopes = tuple[tuple[str, frozenset[str]], ...]
"""Where a name is looked up, innermost first: (full name of an enclosing container, labels of what is nested in it)."""


def _nested(
    parent: Tree, prefix: str, kind: str, path: Path, depth: int, findings: list[Finding], outer: Scopes
) -> Iterator[Placed]:
    names = frozenset(child.name for child in (*parent.init_containers, *parent.containers))
    scopes = ((prefix, names), *outer)
    seen: set[str] = set()
    gate: str | None = None
    for part, children in (("initContainers", parent.init_containers), ("containers", parent.containers)):
        for index, child in enumerate(children):
            here = (*path, part, index)
            name = f"{prefix}.{child.name}"
            findings += _misplaced(child, name, kind, here, depth, seen)
            seen.add(child.name)
            first = part == "initContainers"
            shared = _shared(child, kind, scopes, gate=gate, default_policy="OnFailure" if first else None)
            yield Placed(ContainerSpec(name=name, init_container=first, **shared), here)
            if depth < MAX_NESTING:
                yield from _nested(child, name, kind, here, depth + 1, findings, scopes)
            if first:
                gate = name


def _shared(
    written: Tree, kind: str, scopes: Scopes, *, gate: str | None = None, default_policy: str | None = None
) -> dict[str, object]:
    """The fields as written, with the names of dependencies completed and the init container to wait for."""
    fields = {name: getattr(written, name) for name in SHARED_FIELDS if name in written.model_fields_set}
    fields["type"] = kind
    if written.class_ == "debug":
        fields.setdefault("restart_policy", "Never")
    if default_policy is not None:
        fields.setdefault("restart_policy", default_policy)
    depends = tuple(
        dependency.model_copy(update={"container": _full_name(dependency.container, scopes)})
        for dependency in written.depends_on
    )
    if gate is not None:
        depends = (*depends, Dependency(container=gate, condition="Completed"))
    if depends:
        fields["depends_on"] = depends
    return fields


def _full_name(written: str, scopes: Scopes) -> str:
    """The nearest container of that name, looked up by its first label; else it is a full name already."""
    label = written.partition(".")[0]
    return next((f"{prefix}.{written}" for prefix, names in scopes if label in names), written)


def _misplaced(child: Nested, name: str, kind: str, path: Path, depth: int, seen: set[str]) -> Iterator[Finding]:
    if child.name in seen:
        yield Finding((*path, "name"), f"a sibling is called {child.name} too")
    if "type" in child.model_fields_set and child.type != kind:
        yield Finding((*path, "type"), f"a nested container is run as its root is: {kind}", "leave the type out")
    if child.class_ == "debug":
        yield Finding((*path, "class"), "a debug container is a document of its own, with parent")
    if depth == MAX_NESTING and (child.containers or child.init_containers):
        yield Finding((*path, "containers"), f"containers can be nested {MAX_NESTING} levels deep, no further")
    if len(name) > MAX_NAME:
        yield Finding((*path, "name"), f"the full name {name[:40]}… is longer than {MAX_NAME} characters")
