"""The loader on bytes that no fixture file can hold, and on what it says of good documents."""

from __future__ import annotations

import json
import time

import pytest

from reconciler.spec.loader import MAX_BYTES, Document, Parsed, load_bytes, split_path
from reconciler.spec.nodes import resolve

HEAD = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: web}\n"


def load(text: str, file: str = "f.yaml") -> Parsed:
    return load_bytes(text.encode(), file)


def document(text: str) -> Document:
    parsed = load(text)
    assert parsed.errors == ()
    return parsed.documents[0]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "1:1: there is no document in this file"),
        (b"\n\n", "1:1: there is no document in this file"),
        (b"a: b\nc: \xff", "2:4: the file is not UTF-8"),
        (b"a: b\n\nx\0", "3:2: the character NUL is not allowed"),
        (b"\xef\xbb\xbfa: b", "1:1: the file begins with a byte order mark (save it as UTF-8 without one)"),
        ("a: b".encode("utf-16"), "1:1: the file begins with a byte order mark (save it as UTF-8 without one)"),
        (b"x" * (MAX_BYTES + 1), "1:1: the file is 262145 bytes long; 256 KiB are allowed"),
        (b"--- a\n" * 2000, "1001:1: there are more than 1000 documents in this file"),
        (b'"\\UFFFFFFFF"', "1:1: the parser cannot read what follows"),
    ],
)
def test_a_file_that_is_no_text_is_one_error(data: bytes, error: str) -> None:
    assert [str(found) for found in load_bytes(data, "f.yaml").errors] == [f"f.yaml:{error}"]


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 100_000,
        b"{a: " * 30_000,
        b"- " * 100_000,
        b"? " * 100_000,
        b"- 1\n" * 60_000,
        b"a: &a [" + b"x," * 99 + b"x]\nb: &b [" + b"*a," * 99 + b"*a]\nc: [*b,*b]",
    ],
    ids=["brackets", "braces", "dashes", "question marks", "many nodes", "aliases"],
)
def test_a_bomb_is_refused_before_it_goes_off(bomb: bytes) -> None:
    began = time.monotonic()
    errors = load_bytes(bomb, "f.yaml").errors
    assert len(errors) == 1
    assert "more than" in errors[0].message
    assert time.monotonic() - began < 10


def test_fields_can_be_found_again_in_the_file() -> None:
    text = (
        HEAD
        + "spec:\n  env: {a.b: x}\n  containers:\n    - name: a\n      volumes:\n        - {type: tmpfs, target: /x}\n"
    )
    found = document(text)
    assert found.line == 1
    assert found.locate("name") == (3, 12)
    assert found.locate("env.a.b") == (5, 9)
    assert found.locate("volumes[0].target", "web.a") == (9, 25)


def test_a_field_that_was_not_written_is_found_at_what_surrounds_it() -> None:
    found = document(HEAD + "spec:\n  containers:\n    - name: a\n      resources: {limits: {}}\n")
    assert found.locate("resources.limits.memory", "web.a") == (7, 19)
    assert found.locate("image", "web.a") == (6, 7)


def test_nested_containers_take_the_type_of_their_root() -> None:
    found = document(HEAD + "spec:\n  type: docker\n  containers: [{name: a, containers: [{name: b}]}]\n")
    assert [(spec.name, spec.type) for spec in found.containers] == [
        ("web", "docker"),
        ("web.a", "docker"),
        ("web.a.b", "docker"),
    ]


def test_labels_belong_to_the_top_level_only() -> None:
    text = HEAD.replace("{name: web}", "{name: web, labels: {a: b}}") + "spec:\n  containers: [{name: c}]\n"
    assert [spec.labels for spec in document(text).containers] == [{"a": "b"}, {}]


def test_a_dependency_on_a_sibling_gets_its_full_name() -> None:
    text = (
        HEAD + "spec:\n  containers:\n    - {name: a, dependsOn: [{container: b}, {container: db}]}\n    - {name: b}\n"
    )
    assert [one.container for one in document(text).containers[1].depends_on] == ["web.b", "db"]


def test_init_containers_run_one_after_the_other_and_before_the_rest() -> None:
    text = HEAD + "spec:\n  containers: [{name: c}]\n  initContainers: [{name: a, shell: x}, {name: b, shell: x}]\n"
    waits = {spec.name: [one.container for one in spec.depends_on] for spec in document(text).containers}
    assert waits == {"web": [], "web.a": [], "web.b": ["web.a"], "web.c": ["web.b"]}


def test_an_invalid_document_keeps_its_name_and_spares_its_siblings() -> None:
    parsed = load(HEAD + "spec: {tty: 1}\n---\n" + HEAD.replace("web", "db") + "spec: {}\n")
    assert [found.name for found in parsed.documents] == ["db"]
    assert [error.name for error in parsed.errors] == ["web"]


@pytest.mark.parametrize("rest", ["spec: {shell: 'x\n", "spec: [\n", "spec:\n\tshell: x\n", "spec: *gone\n"])
def test_a_syntax_error_after_the_name_keeps_the_name(rest: str) -> None:
    assert [error.name for error in load(HEAD + rest).errors] == ["web"]


def test_of_one_name_given_twice_no_document_is_used() -> None:
    parsed = load(HEAD + "spec: {}\n---\n" + HEAD + "spec: {tty: 1}\n")
    assert parsed.documents == ()
    assert {error.name for error in parsed.errors} == {"web"}


def test_directives_belong_to_the_document_after_them() -> None:
    text = f"%YAML 1.2\n---\n{HEAD}spec: {{}}\n...\n%YAML 1.2\n---\n{HEAD.replace('web', 'db')}spec: {{}}\n"
    parsed = load(text)
    assert parsed.errors == ()
    assert [(found.name, found.line) for found in parsed.documents] == [("web", 3), ("db", 10)]


def test_json_may_be_indented_with_tabs() -> None:
    data = {"apiVersion": "reconciler/v1", "kind": "Container", "metadata": {"name": "web"}, "spec": {"shell": "a\t😀"}}
    parsed = load(json.dumps(data, indent="\t"), "f.json")
    assert parsed.errors == ()
    assert parsed.documents[0].containers[0].shell == "a\t😀"


@pytest.mark.parametrize("text", ["{a: 1}", '{"a": 1,}', "[" * 100_000, "'a'", '{"a": ' + "1" * 5000 + "}"])
def test_a_json_file_must_be_json(text: str) -> None:
    assert len(load(text, "f.json").errors) == 1


def test_an_error_can_be_said_of_another_file() -> None:
    assert str(load("").in_file("g.yaml").errors[0]).startswith("g.yaml:1:1: ")


@pytest.mark.parametrize(
    ("text", "value"),
    {
        "yes": "yes",
        "0755": 755,
        "0o17": 15,
        "0x1F": 31,
        "1_000": "1_000",
        "1e3": 1000.0,
        "~": None,
        "1:30": "1:30",
        "3.10": 3.1,
        "True": True,
        "-.inf": float("-inf"),
        "-": "-",
        "2024-01-01": "2024-01-01",
    }.items(),
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert resolve(text) == value


def test_paths_of_fields_are_read_as_they_are_written() -> None:
    assert split_path("spec.volumes[10].source") == ("spec", "volumes", 10, "source")
