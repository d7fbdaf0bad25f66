"""YAML text to plain data with the place of every node, within bounds.

Invariant: the tree is bounded while it grows: depth, and the number of nodes counted as if aliases
were written out, are checked at each event, before anything is built from them. Only the pure
parser's event stream is used, so the dialect never depends on which wheel is installed. Scalars
follow the core schema of YAML 1.2 (section 10.3): `yes` is a string, `0755` is 755.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

MAX_DEPTH = 64
MAX_NODES = 10_000

Path = tuple[str | int, ...]

_CORE = "tag:yaml.org,2002:"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBER_START = frozenset("+-.0123456789")
_INT = re.compile(r"[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}

_PARSER_FAILURES = (
    YAMLError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
)
"""What the parser is known to let out on malformed text, beside its own error."""


@dataclass(slots=True)
class Node:
    """line, column: 1-based. value: plain data. text: a scalar as written.
    keys: where each key of a map stands; children: nodes by key or index."""

    line: int
    column: int
    value: Any = None
    text: str | None = None
    children: dict[str | int, Node] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    size: int = 1
    open: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    line: int
    column: int
    path: Path
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """One document. `root` is None when nothing could be read; `broken`: it ends too early."""

    root: Node | None
    problems: tuple[Problem, ...]
    broken: bool = False


class _Refused(Exception):
    """The document cannot be read on; carries the Problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def read_documents(text: str, first_line: int) -> Iterator[Tree]:
    """Every document of the text; after one that cannot be read to its end, nothing more."""
    events = YAML(typ="safe", pure=True).parse(text)
    while True:
        builder = _Builder(events, first_line)
        try:
            more = builder.next_document()
        except _Refused as refused:
            yield Tree(builder.root, (*builder.problems, refused.problem), broken=True)
            return
        except _PARSER_FAILURES as error:
            yield Tree(builder.root, (*builder.problems, _syntax(error, first_line, builder.last)), broken=True)
            return
        if not more:
            return
        yield Tree(builder.root, tuple(builder.problems))


def _syntax(error: BaseException, first_line: int, last: tuple[int, int]) -> Problem:
    mark = error.problem_mark or error.context_mark if isinstance(error, MarkedYAMLError) else None
    line, column = (mark.line + first_line, mark.column + 1) if mark is not None else last
    if isinstance(error, MarkedYAMLError):
        parts = [part for part in (error.problem, error.context) if part]
        message = parts[0] if len(parts) < 2 else f"{parts[0]} ({parts[1]})"
    else:
        message = "the parser cannot read what follows"
    hint = "indent with spaces" if "'\\t'" in message else ""
    return Problem(line, column, (), " ".join(message.split()), hint)


class _Builder:
    """Builds one document from the event stream. Children are attached before they are filled, so
    that what was read before a syntax error can still be looked at."""

    def __init__(self, events: Iterator[Any], first_line: int) -> None:
        self.events = events
        self.first_line = first_line
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node] = {}
        self.count = 0
        self.last = (first_line, 1)

    def next_document(self) -> bool:
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                self._node(next(self.events), None, "", (), 1)
                return True
        return False

    def _node(self, event: Any, parent: Node | None, key: str | int, path: Path, depth: int) -> Node:
        mark = event.start_mark
        line, column = self.last = (mark.line + self.first_line, mark.column + 1)
        if isinstance(event, AliasEvent):
            node = self._alias(event.anchor, line, column, path)
        else:
            node = Node(line, column)
            self._count(1, node, path)
            if event.anchor is not None:
                self.anchors[event.anchor] = node
        if parent is None:
            self.root = node
        else:
            parent.children[key] = node
        if not isinstance(event, AliasEvent):
            self._fill(event, node, path, depth)
        if parent is not None:
            parent.size += node.size
        return node

    def _fill(self, event: Any, node: Node, path: Path, depth: int) -> None:
        if isinstance(event, ScalarEvent):
            self._scalar(event, node, path)
            return
        if depth > MAX_DEPTH:
            raise _Refused(Problem(node.line, node.column, path, f"is nested more than {MAX_DEPTH} levels deep"))
        node.open = True
        if isinstance(event, MappingStartEvent):
            self._check_tag(event, node, path, "map")
            self._map(node, path, depth)
        elif isinstance(event, SequenceStartEvent):
            self._check_tag(event, node, path, "seq")
            self._list(node, path, depth)
        node.open = False

    def _alias(self, anchor: str, line: int, column: int, path: Path) -> Node:
        node = self.anchors.get(anchor)
        if node is None:
            raise _Refused(Problem(line, column, path, f"alias *{anchor} has no anchor before it"))
        if node.open:
            raise _Refused(Problem(line, column, path, f"alias *{anchor} contains itself"))
        self._count(node.size, node, path)
        return node

    def _count(self, nodes: int, node: Node, path: Path) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            message = f"the document has more than {MAX_NODES} nodes, aliases written out"
            raise _Refused(Problem(node.line, node.column, path, message))

    def _list(self, node: Node, path: Path, depth: int) -> None:
        node.value = []
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                return
            index = len(node.value)
            child = self._node(event, node, index, (*path, index), depth + 1)
            node.value.append(child.value)

    def _map(self, node: Node, path: Path, depth: int) -> None:
        node.value = {}
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                return
            key = self._key(event, node, path, depth)
            if key is None:
                self._node(next(self.events), Node(0, 0), "", path, depth + 1)
                continue
            child = self._node(next(self.events), node, key, (*path, key), depth + 1)
            node.value[key] = child.value

    def _key(self, event: Any, node: Node, path: Path, depth: int) -> str | None:
        """The key, or None where it is unusable and its value is to be passed over."""
        key = self._node(event, Node(0, 0), "", path, depth + 1)
        line, column = event.start_mark.line + self.first_line, event.start_mark.column + 1
        if not isinstance(key.value, str):
            hint = f'write "{key.text}"' if key.text else ""
            self.problems.append(Problem(line, column, path, "a key must be a string", hint))
            return None
        if key.value == "<<" and isinstance(event, ScalarEvent) and event.style is None:
            hint = "write the fields out, or give the whole value an anchor"
            self.problems.append(Problem(line, column, path, "YAML 1.2 has no merge keys", hint))
            return None
        if key.value in node.keys:
            first = node.keys[key.value][0]
            message = f"the key is given twice, first in line {first}"
            self.problems.append(Problem(line, column, (*path, key.value), message))
            return None
        node.keys[key.value] = (line, column)
        return key.value

    def _scalar(self, event: Any, node: Node, path: Path) -> None:
        node.text = event.value
        tag = event.tag
        if tag is None and event.style is None:
            node.value = resolve(event.value)
        elif tag is None or tag in ("!", _CORE + "str"):
            node.value = event.value
        else:
            node.value = self._tagged(event.value, tag, node, path)
        if isinstance(node.value, str):
            node.value = self._characters(node.value, node, path)

    def _tagged(self, text: str, tag: str, node: Node, path: Path) -> Any:
        value = resolve(text)
        kind = _KINDS.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
        if kind is None:
            self.problems.append(_unknown_tag(tag, node, path))
        elif not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
            tag_name = tag.removeprefix(_CORE)
            self.problems.append(Problem(node.line, node.column, path, f"is tagged !!{tag_name} but is none"))
        return value

    def _characters(self, text: str, node: Node, path: Path) -> str:
        """Escapes can make what no file can hold: NUL, and halves of surrogate pairs."""
        if "\0" in text:
            self.problems.append(Problem(node.line, node.column, path, "contains a NUL character"))
            return text.replace("\0", "")
        if text.isascii():
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.problems.append(Problem(node.line, node.column, path, "contains half a surrogate pair"))
            return text.encode("ascii", "replace").decode()

    def _check_tag(self, event: Any, node: Node, path: Path, kind: str) -> None:
        if event.tag not in (None, "!", _CORE + kind):
            self.problems.append(_unknown_tag(event.tag, node, path))


def _unknown_tag(tag: str, node: Node, path: Path) -> Problem:
    shown = "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag
    return Problem(node.line, node.column, path, f"unknown tag {shown[:80]}", "leave the tag out")


def resolve(text: str) -> Any:
    """A plain scalar's value by the core schema."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] not in _NUMBER_START:
        return text
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
