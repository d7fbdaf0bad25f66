"""What a hook's answer before a launch means, and what is none."""

from __future__ import annotations

import pytest

from reconciler.errors import Terminal
from reconciler.runtime.hooks.answers import Unusable, Veto, variables
from reconciler.runtime.hooks.hooks import find


@pytest.mark.parametrize(
    ("answer", "env"), [(b"", {}), (b" \n", {}), (b"{}", {}), (b'{"env": {"A": "b", "C": ""}}', {"A": "b", "C": ""})]
)
def test_what_it_adds(answer: bytes, env: dict[str, str]) -> None:
    assert variables(answer) == env


def test_a_veto_comes_before_what_it_adds() -> None:
    with pytest.raises(Veto, match="not today"):
        variables(b'{"veto": "not today", "env": {"A": "b"}}')


@pytest.mark.parametrize(
    "answer",
    [
        b"yes",
        b"[]",
        b'{"enf": {}}',
        b'{"veto": ""}',
        b'{"veto": true}',
        b'{"env": ["A=b"]}',
        b'{"env": {"A": 1}}',
        b'{"env": {"A=B": "c"}}',
        b'{"env": {"": "c"}}',
        b'{"env": {"A": "\\u0000"}}',
    ],
)
def test_what_makes_no_sense_is_no_answer(answer: bytes) -> None:
    with pytest.raises(Unusable):
        variables(answer)


@pytest.mark.parametrize(
    ("name", "why"), [("nobody", "no entry point"), ("./here", "absolute path"), ("/etc/passwd", "can be executed")]
)
def test_a_hook_that_is_not_there_is_refused_before_anything_is_done(name: str, why: str) -> None:
    with pytest.raises(Terminal, match=why):
        find([name])
