"""Bytes of a spec file to documents, or to errors that say where and what was meant.

Invariant: `load_bytes` raises nothing, whatever the bytes; every error of a file is reported at
once; a document that cannot be used does not take its siblings with it, and its name is reported
where it can still be read. A line `---` always separates documents (YAML 1.2, rule c-forbidden),
so a syntax error ends with its own document.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from reconciler.spec import complaints, rules
from reconciler.spec.document import API_VERSION, KIND, ContainerDocument, Finding, Placed, flatten
from reconciler.spec.errors import SpecError
from reconciler.spec.kinds import WRITTEN
from reconciler.spec.model import ContainerSpec
from reconciler.spec.nodes import Node, Path, Tree, read_documents

MAX_BYTES = 256 * 1024
MAX_DOCUMENTS = 1000
MAX_SHOWN = 40

_ATTEMPTS = 5
_HEADERS: dict[Path, str] = {("apiVersion",): API_VERSION, ("kind",): KIND, ("metadata", "name"): "unreadable"}

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_MARKER = re.compile(r"^---(?=[ \t\r\n]|\Z)|(?<=\n)\.\.\.[ \t]*\r?\n", re.MULTILINE)
_DIRECTIVES = re.compile(r"([ \t]*(#[^\r\n]*)?(\r?\n|\Z)|%[^\r\n]*(\r?\n|\Z))*")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufeff\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Document:
    """A valid document. `name` is its top container's; `containers` are parent before nested."""

    name: str
    line: int
    containers: tuple[ContainerSpec, ...]
    _root: Node = field(repr=False, compare=False)
    _places: Mapping[str, Path] = field(repr=False, compare=False)

    def locate(self, field_path: str, container: str | None = None) -> tuple[int, int]:
        """(line, column) of a container's field, or of the nearest thing around it that was written."""
        container = container or self.name
        if container == self.name and field_path in ("name", "labels", "annotations"):
            return place(self._root, ("metadata", field_path))[1:]
        base = self._places.get(container, ("spec",))
        return place(self._root, (*base, *split_path(field_path)))[1:]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file says. A name is in `documents` or on errors, never in both."""

    documents: tuple[Document, ...] = ()
    errors: tuple[SpecError, ...] = ()

    def in_file(self, file: str) -> Parsed:
        """The same content at another path."""
        return replace(self, errors=tuple(error.in_file(file) for error in self.errors))


def split_path(text: str) -> Path:
    """ "volumes[0].source" → ("volumes", 0, "source")."""
    parts = re.findall(r"[^.\[\]]+|\[[0-9]+\]", text)
    return tuple(int(part[1:-1]) if part.startswith("[") else part for part in parts)


def join_path(path: Path) -> str:
    """The inverse of split_path, for people: a very long path is cut."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path[:MAX_SHOWN])
    return text.removeprefix(".") + ("…" if len(path) > MAX_SHOWN else "")


def place(root: Node, path: Path) -> tuple[Path, int, int]:
    """How much of the path was written, and where its last part stands: at its key, or its item."""
    node, line, column = root, root.line, root.column
    done = 0
    while done < len(path):
        # names in a map may contain dots, so the rest of the path is tried as one key, too
        for end in range(done + 1, len(path) + 1):
            key = path[done] if end == done + 1 else ".".join(str(part) for part in path[done:end])
            child = node.children.get(key)
            if child is not None:
                break
        else:
            break
        line, column = (
            node.keys.get(key, (child.line, child.column)) if isinstance(key, str) else (child.line, child.column)
        )
        node, done = child, end
    return path[:done], line, column


def load_bytes(data: bytes, file: str) -> Parsed:
    """Everything the file says. Never raises."""
    text, error = decode(data, file)
    if error is not None:
        return Parsed(errors=(error,))
    if file.endswith(".json"):
        error = _json_error(text, file)
        if error is not None:
            return Parsed(errors=(error,))
        # a tab between tokens of JSON is no space to YAML; within strings JSON has no raw tabs
        pieces = [(1, text.replace("\t", " "))]
    else:
        pieces = list(_pieces(text))
    if len(pieces) > MAX_DOCUMENTS:
        message = f"there are more than {MAX_DOCUMENTS} documents in this file"
        return Parsed(errors=(SpecError(file, pieces[MAX_DOCUMENTS][0], 1, "", message),))
    documents: list[Document] = []
    errors: list[SpecError] = []
    for first_line, piece in pieces:
        for tree in read_documents(piece, first_line):
            document, found = _read(tree, file)
            errors += found
            if document is not None:
                documents.append(document)
    if not documents and not errors:
        return Parsed(errors=(SpecError(file, 1, 1, "", "there is no document in this file"),))
    return _unique(documents, errors, file)


def decode(data: bytes, file: str) -> tuple[str, SpecError | None]:
    """The text of a file, or why it has none."""

    def refused(message: str, hint: str = "", before: str = "") -> tuple[str, SpecError]:
        lines = _LINE_BREAK.split(before)
        return "", SpecError(file, len(lines), len(lines[-1]) + 1, "", message, hint)

    if len(data) > MAX_BYTES:
        return refused(f"the file is {len(data)} bytes long; {MAX_BYTES // 1024} KiB are allowed")
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return refused("the file begins with a byte order mark", "save it as UTF-8 without one")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return refused("the file is not UTF-8", before=data[: error.start].decode("utf-8"))
    bad = _UNPRINTABLE.search(text)
    if bad is not None:
        name = "NUL" if bad[0] == "\0" else f"U+{ord(bad[0]):04X}"
        return refused(f"the character {name} is not allowed", before=text[: bad.start()])
    return text, None


def _json_error(text: str, file: str) -> SpecError | None:
    """JSON is stricter than YAML, and a .json file is for tools that expect JSON."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return SpecError(file, error.lineno, error.colno, "", f"is not JSON: {error.msg[:1].lower()}{error.msg[1:]}")
    except RecursionError:
        return SpecError(file, 1, 1, "", "is nested too deeply")
    except ValueError:
        return SpecError(file, 1, 1, "", "is not JSON: a number is too long")
    return None


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of each document; those of blank lines and comments only are left out."""
    start, line, held = 0, 1, ""
    for cut in [*(m.start() if m[0] == "---" else m.end() for m in _MARKER.finditer(text)), len(text)]:
        piece = text[start:cut]
        start = cut
        if "%" in piece and _DIRECTIVES.fullmatch(piece):
            held += piece  # directives belong to the document after them
            continue
        piece, held = held + piece, ""
        if not _is_blank(piece):
            yield line, piece
        line += len(_LINE_BREAK.findall(piece))
    if held:
        yield line, held


def _is_blank(piece: str) -> bool:
    lines = piece.removeprefix("---").splitlines()
    return all(not stripped or stripped.startswith("#") or stripped == "..." for stripped in map(str.strip, lines))


def _read(tree: Tree, file: str) -> tuple[Document | None, list[SpecError]]:
    """One document; either it, or errors."""
    root = tree.root
    if root is None:
        return None, [SpecError(file, p.line, p.column, join_path(p.path), p.message, p.hint) for p in tree.problems]
    name = _name(root)
    errors = [SpecError(file, p.line, p.column, join_path(p.path), p.message, p.hint, name) for p in tree.problems]
    if tree.broken:
        return None, errors
    if not isinstance(root.value, dict):
        hint = "apiVersion: reconciler/v1, kind: Container, metadata, spec"
        return None, [*errors, SpecError(file, root.line, root.column, "", "a document is a map of fields", hint)]
    document, refused = _validate(root)
    errors += [error_at(finding, root, file, name) for finding in refused]
    placed: tuple[Placed, ...] = ()
    if document is not None:
        placed, findings = flatten(document)
        findings = (*findings, *_rule_findings(placed, partial=bool(refused)))
        errors += [error_at(finding, root, file, name) for finding in findings]
    if errors:
        return None, sorted(errors, key=lambda error: (error.line, error.column))
    specs = tuple(one.spec for one in placed)
    return Document(specs[0].name, root.line, specs, root, {one.spec.name: one.path for one in placed}), []


def _name(root: Node) -> str | None:
    """The name the document has, or would have."""
    value = root.value if isinstance(root.value, dict) else {}
    metadata = value.get("metadata", root.children["metadata"].value if "metadata" in root.children else None)
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        return None
    spec = value.get("spec")
    if isinstance(spec, dict) and spec.get("class") == "debug" and isinstance(spec.get("parent"), str):
        return f"{spec['parent']}.{name}"
    return name


def error_at(finding: Finding, root: Node, file: str, name: str | None = None) -> SpecError:
    """A finding, with where it stands."""
    _, line, column = place(root, finding.path)
    return SpecError(file, line, column, join_path(finding.path), finding.message, finding.hint, name)


def _validate(root: Node) -> tuple[ContainerDocument | None, list[Finding]]:
    """The document, and what the models refuse. With refusals the document is what is left of it
    without the refused fields, so that its rules can be checked all the same; None when nothing is."""
    data, findings = root.value, dict[Path, Finding]()
    for attempt in range(_ATTEMPTS):
        try:
            return ContainerDocument.model_validate(data, context=WRITTEN), list(findings.values())
        except ValidationError as error:
            details = error.errors(include_url=False)
        if attempt == 0:
            data = _copy(data)
            for detail in details:
                found = finding(detail, root)
                findings.setdefault(found.path, found)
        dropped: set[Path] = set()
        for path in map(complaints.path_of, details):
            if not any(path[:end] in dropped for end in range(len(path))):
                dropped.add(_drop(data, path))
    return None, list(findings.values())


def _drop(data: Any, path: Path) -> Path:
    """Take the field at the path out, or the nearest one around it, and say which; names and headers
    are replaced."""
    stand_in = _stand_in(path)
    holders = [data]
    for key in path[:-1]:
        inner = holders[-1]
        known = key in inner if isinstance(inner, dict) else isinstance(inner, list) and isinstance(key, int)
        if not known:
            break
        holders.append(inner[key])
    if stand_in and len(holders) == len(path) and isinstance(holders[-1], dict):
        holders[-1][path[-1]] = stand_in
        return path
    for depth in range(len(holders), 0, -1):
        holder, key = holders[depth - 1], path[depth - 1]
        if isinstance(holder, dict) and key in holder:
            del holder[key]
            return path[:depth]
    return path


def _stand_in(path: Path) -> str:
    """A value for what no document can be without, "" for anything else."""
    if len(path) > 3 and path[-1] == "name" and path[-3] in ("containers", "initContainers"):
        return f"unreadable-{str(path[-3])[0]}{path[-2]}"
    return _HEADERS.get(path, "")


def finding(detail: Any, root: Node) -> Finding:
    """What a model refuses (pydantic's ErrorDetails), for who wrote it."""
    path = complaints.path_of(detail)
    if path[-1:] == ("[key]",):
        path = path[:-1]
    written, _, _ = place(root, path)
    if detail["type"] != "missing":
        path = written
    node = root
    for key in written:
        node = node.children[key]
    message, hint = complaints.say(detail, path, node)
    return Finding(path, message, hint)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def _rule_findings(placed: tuple[Placed, ...], *, partial: bool) -> Iterator[Finding]:
    places = {one.spec.name: one.path for one in placed}
    for one in placed:
        for path, message, hint in rules.violations(one.spec, partial=partial):
            yield Finding((*one.path, *split_path(path)), message, hint)
    if len(places) == len(placed):
        for name, index, way in rules.cycles(one.spec for one in placed):
            yield Finding((*places[name], "dependsOn", index), "is a circle: " + " → ".join(way))
        for name in rules.ports_of_another(one.spec for one in placed):
            message = "a nested container shares its parent's network"
            yield Finding((*places[name], "ports"), message, "name the ports at the top level")
        for name, index, message in rules.beyond_parent(one.spec for one in placed):
            yield Finding((*places[name], "devices", index), message, "give it the device too")


def _unique(documents: list[Document], errors: list[SpecError], file: str) -> Parsed:
    """Two documents of one name: which one is meant cannot be known, so neither is used."""
    counts = Counter(document.name for document in documents)
    invalid = {error.name for error in errors}
    kept = []
    for document in documents:
        if counts[document.name] > 1:
            lines = ", ".join(str(other.line) for other in documents if other.name == document.name)
            message = f"this file has {counts[document.name]} documents of this name, in lines {lines}"
            line, column = document.locate("name")
            errors.append(SpecError(file, line, column, "metadata.name", message, "", document.name))
        elif document.name not in invalid:
            kept.append(document)
        else:
            line, column = document.locate("name")
            message = "another document of this name in this file is invalid"
            errors.append(SpecError(file, line, column, "metadata.name", message, "", document.name))
    return Parsed(tuple(kept), tuple(sorted(errors, key=lambda error: (error.line, error.column))))
