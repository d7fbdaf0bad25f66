"""The device program, run instruction by instruction, against the rules read in plain Python."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.runtime.isolators.cgroups_devices import DEFAULT, Rule, program

ACCESS = {"m": 1, "r": 2, "w": 4}
KIND = {"b": 1, "c": 2}


def run(code: bytes, kind: str, access: str, major: int, minor: int) -> bool:
    """An interpreter of the few instructions that the program may consist of (Documentation/bpf/standardization)."""
    context = struct.pack("=III", sum(ACCESS[each] for each in access) << 16 | KIND[kind], major, minor)
    registers = [0] * 11
    at = 0
    while True:
        op, regs, offset, value = struct.unpack_from("=BBhi", code, 8 * at)
        to, source = regs & 15, regs >> 4
        at += 1
        if op == 0x61:
            registers[to] = struct.unpack_from("=I", context, offset)[0]
        elif op == 0x54:
            registers[to] &= value
        elif op == 0x74:
            registers[to] >>= value
        elif op == 0xB7:
            registers[to] = value
        elif op == 0xBC:
            registers[to] = registers[source]
        elif op == 0x55:
            at += offset if registers[to] != value else 0
        elif op == 0x5D:
            at += offset if registers[to] != registers[source] else 0
        else:
            assert op == 0x95, f"instruction {op:#x}"
            return registers[0] == 1


def allowed(rules: tuple[Rule, ...], kind: str, access: str, major: int, minor: int) -> bool:
    return any(
        rule.kind == kind
        and set(access) <= set(rule.access)
        and rule.major in (None, major)
        and rule.minor in (None, minor)
        for rule in rules
    )


numbers = st.integers(0, 4)
kinds = st.sampled_from("bc")
accesses = st.sets(st.sampled_from("rwm"), min_size=1).map(lambda letters: "".join(sorted(letters)))
rule = st.builds(Rule, kinds, st.none() | numbers, st.none() | numbers, accesses)


@given(st.lists(rule, max_size=6).map(tuple), kinds, accesses, numbers, numbers)
def test_the_program_allows_what_a_rule_allows(
    rules: tuple[Rule, ...], kind: str, access: str, major: int, minor: int
) -> None:
    assert run(program(tuple(rules)), kind, access, major, minor) == allowed(rules, kind, access, major, minor)


@pytest.mark.parametrize(
    ("kind", "access", "major", "minor", "may"),
    [
        ("c", "rw", 1, 3, True),
        ("c", "rw", 136, 200, True),
        ("c", "m", 1, 1, True),
        ("c", "r", 1, 1, False),
        ("c", "rm", 1, 11, False),
        ("b", "m", 254, 0, True),
        ("b", "r", 254, 0, False),
        ("c", "rw", 10, 229, False),
    ],
)
def test_the_default_list(kind: str, access: str, major: int, minor: int, may: bool) -> None:
    assert run(program(DEFAULT), kind, access, major, minor) is may


def test_v1_takes_a_line_for_each() -> None:
    assert Rule("c", 136, None, "rwm").line() == "c 136:* rwm"
    assert Rule("b", None, None, "m").line() == "b *:* m"
