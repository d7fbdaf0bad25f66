"""Revisions of a top-level name: what its file asked for, one after the other; and going back to one of them. Pure.

    file ──valid, and another digest than the last──▶ revision 1, 2, 3 …        the last KEPT
    rollback to 2                                     2 in force; the file's content, by digest, set aside
    the file asks for something else                  the rollback is over, revision 4

Invariants: a revision is a whole tree, and valid; of secrets it has the paths alone; a rollback lasts until it is
taken back, until its name is destroyed, or until the file's content is another valid one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.loop.values import Origin, Record, Tree
from reconciler.spec.changes import compare
from reconciler.spec.loader import Document
from reconciler.spec.model import ContainerSpec
from reconciler.spec.nodes import Node
from reconciler.spec.normal import SCHEMA, UnreadableSpec, canonical, dump, load

MARK = "rolledback"
"""The journal's kind of mark."""
KEPT = 10
LARGEST = 1 << 20
"""Bytes of a name's revisions together; the last two are kept whatever their size."""


@dataclass(frozen=True, slots=True)
class Revision:
    """at: first seen then; digest: of the tree; specs: as `normal.dump` has them, parents first, in form `schema`."""

    number: int
    at: float
    digest: str
    origin: Origin
    specs: tuple[Mapping[str, Any], ...]
    schema: int = SCHEMA

    def load(self) -> tuple[ContainerSpec, ...]:
        """Raises UnreadableSpec."""
        return tuple(load(spec, self.schema) for spec in self.specs)


@dataclass(frozen=True, slots=True)
class Rollback:
    """By command: to which revision, and the digest of the tree that is set aside for it; who, and when."""

    to: int
    aside: str
    by: str = ""
    at: float | None = None

    def details(self) -> dict[str, Any]:
        return {"to": self.to, "aside": self.aside, "by": self.by, "at": self.at}

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Rollback | None:
        """None for a mark that is damaged."""
        to, aside, by, at = (details.get(key) for key in ("to", "aside", "by", "at"))
        if not isinstance(to, int) or not isinstance(aside, str):
            return None
        return cls(to, aside, by if isinstance(by, str) else "", at if isinstance(at, int | float) else None)


@dataclass(frozen=True, slots=True)
class Reverted:
    """A rollback with what it puts in force."""

    rollback: Rollback
    revision: Revision
    specs: tuple[ContainerSpec, ...]

    def document(self, line: int) -> Document:
        """As if it were what the file has there."""
        return Document(self.specs[0].name, line, self.specs, Node(line, 1), {})

    def over(self, tree: Tree | None) -> bool:
        """The file asks for something else than what was set aside."""
        return tree is not None and tree.digest != self.rollback.aside


def reverted(rollback: Rollback | None, revisions: Sequence[Revision]) -> Reverted | str:
    """Or why it cannot be carried out."""
    found = next((one for one in revisions if rollback is not None and one.number == rollback.to), None)
    if rollback is None or found is None:
        return "its mark is damaged" if rollback is None else f"revision {rollback.to} is no longer kept"
    try:
        return Reverted(rollback, found, found.load())
    except UnreadableSpec as error:
        return f"revision {rollback.to} cannot be read: {error}"


def rollbacks(
    marks: Mapping[str, Mapping[str, Any]], revisions: Callable[[str], Sequence[Revision]]
) -> tuple[dict[str, Reverted], dict[str, str]]:
    """By name: those that can be carried out, and why the others cannot."""
    found = {name: reverted(Rollback.of(details), revisions(name)) for name, details in marks.items()}
    sound = {name: one for name, one in found.items() if isinstance(one, Reverted)}
    return sound, {name: why for name, why in found.items() if isinstance(why, str)}


def remembered(revisions: Sequence[Revision], tree: Tree, at: float) -> tuple[Revision, ...]:
    """With one more if the tree differs from the last; else as given."""
    if revisions and revisions[-1].digest == tree.digest:
        return tuple(revisions)
    number = revisions[-1].number + 1 if revisions else 1
    fresh = Revision(number, at, tree.digest, tree.origin, tuple(dump(spec) for spec in tree.specs))
    kept = [*revisions, fresh][-KEPT:]
    while len(kept) > 2 and sum(len(canonical({"": one.specs})) for one in kept) > LARGEST:
        del kept[0]
    return tuple(kept)


def in_force(revisions: Sequence[Revision], records: Mapping[str, Record], rollback: Rollback | None) -> int | None:
    """The number of the one that is rolled back to, or else of the last whose specs were applied. records: of the
    tree, by name."""
    if rollback is not None:
        return rollback.to
    applied = {name: dump(record.spec) for name, record in records.items() if record.spec.class_ != "debug"}
    for revision in reversed(revisions):
        specs = {spec["name"]: spec for spec in revision.specs}
        if applied and all(specs.get(name) == spec for name, spec in applied.items()):
            return revision.number
    return None


def chosen(name: str, revisions: Sequence[Revision], now: int | None, to: int | None) -> Revision | str:
    """The revision to go back to, `to` or else the one before that in force, or why there is none."""
    kept = [one.number for one in revisions]
    if not kept:
        return f"{name} has no revisions: it was not applied yet, or is no top-level name"
    if to is None:
        earlier = [number for number in kept if number < (now or kept[-1])]
        if not earlier:
            return f"{name} has no revision before {now or kept[-1]}: there is nothing to go back to"
        to = earlier[-1]
    if to not in kept:
        return f"{name} has no revision {to}: kept are {kept[0]} to {kept[-1]} (`reconciler history {name}`)"
    return revisions[kept.index(to)]


def changes(before: Revision | None, after: Revision) -> tuple[str, ...]:
    """What differs between two revisions, a text each. Raises UnreadableSpec."""
    if before is None:
        return ()
    old, new = ({spec.name: spec for spec in one.load()} for one in (before, after))
    return tuple(_changes(old, new, after.specs[0]["name"]))


def _changes(old: Mapping[str, ContainerSpec], new: Mapping[str, ContainerSpec], top: str) -> Iterator[str]:
    for name in (*new, *(name for name in old if name not in new)):
        if name not in new:
            yield f"{name} removed"
        elif name not in old:
            yield f"{name} added"
        else:
            prefix = "" if name == top else f"{name}: "
            yield from (f"{prefix}{change}" for change in compare(old[name], new[name]))
