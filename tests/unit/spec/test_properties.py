"""Properties of the loader and of the canonical form, on made-up input."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.spec.changes import compare
from reconciler.spec.loader import Parsed, load_bytes
from reconciler.spec.model import ContainerSpec
from reconciler.spec.normal import SCHEMA, digest, dump, load

words = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
amounts = st.fixed_dictionaries(
    {},
    optional={
        "cpus": st.floats(0.01, 64),
        "memory": st.integers(1, 2**40),
        "pids": st.integers(1, 1000),
        "cpuset": st.sampled_from(["0", "0-3"]),
    },
)
specs = st.fixed_dictionaries(
    {"name": st.sampled_from(["web", "shop.web", "a.b.c"])},
    optional={
        "labels": st.dictionaries(words, words, max_size=3),
        "command": st.lists(words, max_size=3).map(lambda rest: ["run", *rest]),
        "env": st.dictionaries(
            words.filter(lambda name: name != "" and "=" not in name),
            words | st.just({"fromFile": "/f"}) | st.just({"secretFile": "/s"}),
            max_size=4,
        ),
        "tty": st.booleans(),
        "resources": st.fixed_dictionaries({}, optional={"limits": amounts, "requests": amounts}),
        "namespaces": st.fixed_dictionaries({}, optional={"pid": st.sampled_from(["private", "host", "parent"])}),
        "security": st.fixed_dictionaries({"capabilities": st.just({"drop": ["ALL"], "add": ["CHOWN", "KILL"]})}),
        "killPolicy": st.fixed_dictionaries({"gracePeriod": st.floats(0, 1000)}),
        "restartPolicy": st.sampled_from(["Always", "OnFailure", "Never"]),
        "volumes": st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["tmpfs", "image"]), "target": st.just("/tmp")},
                optional={"readOnly": st.booleans()},
            ),
            max_size=2,
        ),
    },
).map(ContainerSpec.model_validate)


def shuffled(value: Any, seed: int) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        random.Random(seed).shuffle(keys)
        return {key: shuffled(value[key], seed) for key in keys}
    return [shuffled(item, seed) for item in value] if isinstance(value, list) else value


@given(specs)
def test_what_is_stored_is_what_is_loaded(spec: ContainerSpec) -> None:
    stored = json.loads(json.dumps(dump(spec)))
    again = load(stored, SCHEMA)
    assert again == spec
    assert digest(again) == digest(spec)
    assert compare(spec, again) == ()


@given(specs, st.integers())
def test_the_order_of_keys_does_not_change_the_digest(spec: ContainerSpec, seed: int) -> None:
    assert digest(load(shuffled(dump(spec), seed), SCHEMA)) == digest(spec)


@given(specs, specs)
def test_specs_differ_exactly_when_their_digests_do(one: ContainerSpec, other: ContainerSpec) -> None:
    assert (compare(one, other) == ()) == (digest(one) == digest(other))


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_no_bytes_make_the_loader_raise(data: bytes) -> None:
    parsed = load_bytes(data, "f.yaml")
    assert parsed.errors or parsed.documents


@given(st.text("abz:-?[]{}&*!|>'\"%@`,#\n\t \\0x~<", max_size=60), st.sampled_from(["f.yaml", "f.json"]))
@settings(max_examples=500)
def test_no_punctuation_makes_the_loader_raise(text: str, file: str) -> None:
    parsed = load_bytes(text.encode(), file)
    assert parsed.errors or parsed.documents


GOOD = """apiVersion: reconciler/v1
kind: Container
metadata: {name: shop, labels: {tier: front}}
spec:
  command: [run, "1"]
  resources: {limits: {memory: 64Mi, cpus: 1.5}}
  containers:
    - name: web
      env: {A: x, B: {fromFile: /b}}
      killPolicy: {gracePeriod: 1m30s}
"""


@given(st.integers(0, len(GOOD)), st.integers(0, 20), st.text(":-[]{}&*!#\n \"'a1", max_size=4))
@settings(max_examples=400)
def test_a_damaged_file_is_read_or_refused_with_a_place(at: int, gap: int, insert: str) -> None:
    text = GOOD[:at] + insert + GOOD[at + gap :]
    parsed: Parsed = load_bytes(text.encode(), "f.yaml")
    lines = text.count("\n") + 1
    assert all(1 <= error.line <= lines and error.column >= 1 and error.message for error in parsed.errors)
    assert all(spec.name.split(".")[0] == found.name for found in parsed.documents for spec in found.containers)
