"""What the models refuse, in words for the writer of the spec.

Invariant: every message says what the field must be, and a hint, where there is one, is text that
could be put in the file. pydantic's own wording never reaches a user.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from pydantic_core import ErrorDetails

from reconciler.spec import schema
from reconciler.spec.model import VARIANT
from reconciler.spec.nodes import Node, Path


def meant(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, as a hint; "" when none is near."""
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=0.6)
    return f'did you mean "{folded[near[0]]}"?' if near else ""


def path_of(error: ErrorDetails) -> Path:
    """The path in the document; names of union members and of map keys are pydantic's own."""
    return tuple(part for part in error["loc"] if not (isinstance(part, str) and part.startswith(VARIANT)))


def say(error: ErrorDetails, path: Path, node: Node | None) -> tuple[str, str]:
    """Message and hint."""
    wording = _WORDINGS.get(error["type"])
    if wording is not None:
        return wording(error, path, node)
    return error["msg"][:1].lower() + error["msg"][1:], ""


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    for types, name in (((int, float), "a number"), ((str,), "text"), ((list, tuple), "a list"), ((dict,), "a map")):
        if isinstance(value, types):
            return name
    return "something else"


def _must_be(what: str, hint: Callable[[Any, Node | None, Path], str]) -> Callable[..., tuple[str, str]]:
    def wording(error: ErrorDetails, path: Path, node: Node | None) -> tuple[str, str]:
        value = error["input"]
        if value is None:
            return f"must be {what}, but is empty", "leave the field out for its default"
        return f"must be {what}, not {_kind(value)}", hint(value, node, path)

    return wording


def _quote(value: Any, node: Node | None, path: Path) -> str:
    if isinstance(value, int | float) and node is not None and node.text is not None:
        return f'write "{node.text}"'
    if isinstance(value, dict) and len(path) >= 2 and path[-2] == "env":
        return "a value, {fromFile: PATH} or {secretFile: PATH}"
    return ""


def _flag(value: Any, node: Node | None, path: Path) -> str:
    words = {"yes": "true", "on": "true", "y": "true", "1": "true", "no": "false", "off": "false", "n": "false"}
    meaning = words.get(str(value).lower(), {"true": "true", "false": "false"}.get(str(value).lower(), ""))
    return f"did you mean {meaning}?" if meaning else ""


def _number(value: Any, node: Node | None, path: Path) -> str:
    try:
        return f"write {float(value):g} without quotes" if isinstance(value, str) else ""
    except ValueError:
        return ""


def _listed(value: Any, node: Node | None, path: Path) -> str:
    if path[-1:] == ("command",) and isinstance(value, str):
        return "command is [program, argument, …]; for a line of shell use shell"
    if isinstance(value, str | int | float):
        return f"did you mean [{value}]?"
    return 'begin each entry with "- "' if isinstance(value, dict) else ""


def _mapped(value: Any, node: Node | None, path: Path) -> str:
    if path[-1:] == ("env",) and isinstance(value, list):
        return "NAME: value, one per line"
    if path[-1:] == ("image",) and isinstance(value, str):
        return f'did you mean {{reference: "{value}"}}?'
    return ""


def _fields(value: Any, node: Node | None, path: Path) -> str:
    return _mapped(value, node, path) or "its fields are " + ", ".join(schema.names(path)[:8])


def _unknown(error: ErrorDetails, path: Path, node: Node | None) -> tuple[str, str]:
    known = schema.names(path[:-1])
    word = str(path[-1])
    hint = meant(word, known)
    if not hint and path[:-1] == () and word in schema.names(("spec",)):
        hint = f"it belongs in spec: spec.{word}"
    if not hint and len(known) <= 10:
        hint = "known: " + ", ".join(known)
    return "unknown field", hint


def _missing(error: ErrorDetails, path: Path, node: Node | None) -> tuple[str, str]:
    return "is missing", _EXAMPLES.get(path, "")


_EXAMPLES: dict[Path, str] = {
    ("apiVersion",): "apiVersion: reconciler/v1",
    ("kind",): "kind: Container",
    ("metadata",): "metadata: {name: web}",
}


def _literal(error: ErrorDetails, path: Path, node: Node | None) -> tuple[str, str]:
    expected = error.get("ctx", {}).get("expected", "").replace("'", "").replace(" or ", ", ")
    choices = expected.split(", ")
    value = error["input"]
    shown = f'"{value[:60]}"' if isinstance(value, str) else _kind(value)
    wanted = f"must be {expected}" if len(choices) == 1 else f"must be one of {expected}"
    return f"{wanted}, not {shown}", meant(value, choices) if isinstance(value, str) else ""


def _refused(error: ErrorDetails, path: Path, node: Node | None) -> tuple[str, str]:
    context = error.get("ctx", {})
    return str(context.get("message", error["msg"])), str(context.get("hint", ""))


def _bound(name: str, words: str) -> Callable[..., tuple[str, str]]:
    def wording(error: ErrorDetails, path: Path, node: Node | None) -> tuple[str, str]:
        return f"must be {error.get('ctx', {}).get(name)} or {words}", ""

    return wording


_WORDINGS: dict[str, Callable[..., tuple[str, str]]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "literal_error": _literal,
    "refused": _refused,
    "string_type": _must_be("text", _quote),
    "bool_type": _must_be("true or false", _flag),
    "int_type": _must_be("a whole number", _number),
    "float_type": _must_be("a number", _number),
    "tuple_type": _must_be("a list", _listed),
    "dict_type": _must_be("a map", _mapped),
    "model_type": _must_be("a map of fields", _fields),
    "greater_than_equal": _bound("ge", "more"),
    "less_than_equal": _bound("le", "less"),
    "too_short": lambda error, path, node: ("must not be empty", ""),
    "finite_number": lambda error, path, node: ("must be a finite number", ""),
}
