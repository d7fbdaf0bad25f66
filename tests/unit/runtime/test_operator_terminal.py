"""The detach keys, however they are cut into pieces."""

from __future__ import annotations

import pytest

from reconciler.runtime.launcher.operator_terminal import DetachKeys


def typed(*pieces: bytes, active: bool = True) -> tuple[bytes, bool]:
    keys, passed = DetachKeys(active), b""
    for piece in pieces:
        more, detached = keys.feed(piece)
        passed += more
        if detached:
            return passed, True
    return passed, False


@pytest.mark.parametrize("pieces", [[b"ab\x10\x11cd"], [b"ab\x10", b"\x11cd"], [b"ab", b"\x10", b"\x11"]])
def test_the_keys_detach_and_what_was_typed_before_them_is_passed_on(pieces: list[bytes]) -> None:
    assert typed(*pieces) == (b"ab", True)


@pytest.mark.parametrize(
    ("given", "passed"),
    [(b"a\x10b", b"a\x10b"), (b"\x10\x10b", b"\x10\x10b"), (b"\x11\x10", b"\x11"), (b"\x10x\x11", b"\x10x\x11")],
)
def test_other_keys_are_passed_on_as_they_are_the_last_first_key_when_something_follows(
    given: bytes, passed: bytes
) -> None:
    assert typed(given) == (passed, False)


def test_a_doubled_first_key_still_begins_the_sequence() -> None:
    assert typed(b"\x10\x10\x11") == (b"\x10", True)


def test_without_a_terminal_bytes_are_bytes() -> None:
    assert typed(b"\x10\x11", active=False) == (b"\x10\x11", False)
