"""From a settled profile to the program that the kernel runs at every system call.

    another architecture ─▶ killed │ x32 ─▶ ENOSYS │ the number, by a binary tree of ranges ─▶ answer
                                                                          └─ its arguments, rule by rule ─▶ answer

Of one architecture only: a call that comes in by another table (int 0x80) is nothing we could name. Neighbours with one
answer are one range, so the tree is about seven comparisons deep, and the kernel's own shortcut for calls that are
always allowed (kernel/seccomp.c, seccomp_cache_prepare) sees through it. What is newer than the profile, or known to
nobody, is answered ENOSYS, as by runc (libcontainer/seccomp/patchbpf): programs fall back on that, not on EPERM.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum

from reconciler.runtime.kernel import bpf_filter as bpf
from reconciler.runtime.kernel import seccomp
from reconciler.runtime.seccomp import table
from reconciler.runtime.seccomp.profile import Comparison, Condition, Profile, Rule

# in the key of whatever is kept of a program: raised when the same profile gives another one
GENERATION = 1

_ENOSYS = seccomp.ERRNO | errno.ENOSYS
# a default that lets calls through lets new ones through too
_PERMISSIVE = (seccomp.ALLOW, seccomp.LOG, seccomp.TRACE)
_HALF = 2**32 - 1


@dataclass(frozen=True, slots=True)
class _Verdict:
    """On one call: the first of the rules that holds, else `otherwise`."""

    otherwise: int
    rules: tuple[Rule, ...] = ()


def compiled(profile: Profile, architecture: str) -> bytes:
    """Raises ValueError for a profile that is too large for the kernel."""
    audit, _ = seccomp.MACHINES[architecture]
    tree = _tree(_ranges(profile, architecture))
    if architecture == "x86_64":
        x32 = (bpf.give(_ENOSYS),)
        tree = bpf.branch(bpf.JUMP_GREATER_EQUAL, seccomp.X32_BIT, x32, tree)
    checked = (bpf.load(seccomp.NUMBER_AT), *tree)
    foreign = (bpf.give(seccomp.KILL_PROCESS),)
    return bpf.encode((bpf.load(seccomp.ARCHITECTURE_AT), *bpf.branch(bpf.JUMP_EQUAL, audit, checked, foreign)))


def _ranges(profile: Profile, architecture: str) -> list[tuple[int, _Verdict]]:
    """(first number, verdict) of each range, ascending from 0; the last has no end."""
    numbers = table.numbers(architecture)
    verdicts = {numbers[name]: verdict for name, verdict in _verdicts(profile).items() if name in numbers}
    known = set(numbers.values())
    newest = max((numbers[name] for name in profile.known if name in numbers), default=-1)
    default = _Verdict(profile.default)
    missing = default if profile.default & ~seccomp.DATA in _PERMISSIVE else _Verdict(_ENOSYS)
    ranges: list[tuple[int, _Verdict]] = []
    for number in range(newest + 1):
        verdict = verdicts.get(number, default) if number in known else missing
        if not ranges or ranges[-1][1] != verdict:
            ranges.append((number, verdict))
    if not ranges or ranges[-1][1] != missing:
        ranges.append((newest + 1, missing))
    return ranges


def _verdicts(profile: Profile) -> dict[str, _Verdict]:
    """A rule without conditions settles its calls, wherever it stands, as in libseccomp; else the order counts."""
    settled: dict[str, int] = {}
    open_rules: dict[str, list[Rule]] = {}
    for rule in profile.rules:
        for name in rule.names:
            if rule.conditions:
                open_rules.setdefault(name, []).append(rule)
            else:
                settled.setdefault(name, rule.answer)
    found = {name: _Verdict(profile.default, tuple(rules)) for name, rules in open_rules.items()}
    return found | {name: _Verdict(answer) for name, answer in settled.items()}


def _tree(ranges: list[tuple[int, _Verdict]]) -> bpf.Program:
    if len(ranges) == 1:
        return _leaf(ranges[0][1])
    middle = len(ranges) // 2
    lower, upper = _tree(ranges[:middle]), _tree(ranges[middle:])
    return bpf.branch(bpf.JUMP_GREATER_EQUAL, ranges[middle][0], upper, lower)


def _leaf(verdict: _Verdict) -> bpf.Program:
    program: bpf.Program = ()
    for rule in verdict.rules:
        program += _block(rule)
    return (*program, bpf.give(verdict.otherwise))


class _To(Enum):
    """Where a jump of a condition leads: on, past this condition, or past its rule."""

    NEXT = 1
    HOLDS = 2
    FAILS = 3


_NEXT, _HOLDS, _FAILS = _To.NEXT, _To.HOLDS, _To.FAILS
_Line = bpf.Instruction | tuple[int, int, _To, _To]  # code, value, where to if true, where to if false


def _block(rule: Rule) -> bpf.Program:
    """The answer if all conditions hold; else what comes after. Six conditions are far shorter than a jump is far."""
    program: bpf.Program = (bpf.give(rule.answer),)
    for condition in reversed(rule.conditions):
        lines = _lines(condition)
        placed: list[bpf.Instruction] = []
        for number, line in enumerate(lines):
            left = len(lines) - number - 1
            jumps = {_NEXT: 0, _HOLDS: left, _FAILS: left + len(program)}
            if isinstance(line, bpf.Instruction):
                placed.append(line)
            else:
                placed.append(bpf.Instruction(line[0], jumps[line[2]], jumps[line[3]], line[1]))
        program = (*placed, *program)
    return program


def _lines(condition: Condition) -> list[_Line]:
    """Arguments are 64 bits wide and are looked at in halves, the higher one first."""
    low = seccomp.ARGUMENTS_AT + 8 * condition.index
    high = low + 4
    value_high, value_low = condition.value >> 32, condition.value & _HALF
    start: list[_Line] = [bpf.load(high)]
    rest: _Line = bpf.load(low)
    match condition.comparison:
        case Comparison.EQUAL | Comparison.MASKED_EQUAL:
            mask_high, mask_low = condition.mask >> 32, condition.mask & _HALF
            return _masked(high, mask_high, value_high) + _masked(low, mask_low, value_low)
        case Comparison.NOT_EQUAL:
            equal = (bpf.JUMP_EQUAL, value_low, _FAILS, _NEXT)
            return [*start, (bpf.JUMP_EQUAL, value_high, _NEXT, _HOLDS), rest, equal]
        case Comparison.GREATER | Comparison.GREATER_EQUAL:
            code = bpf.JUMP_GREATER if condition.comparison is Comparison.GREATER else bpf.JUMP_GREATER_EQUAL
            above, same = (bpf.JUMP_GREATER, value_high, _HOLDS, _NEXT), (bpf.JUMP_EQUAL, value_high, _NEXT, _FAILS)
            return [*start, above, same, rest, (code, value_low, _NEXT, _FAILS)]
        case Comparison.LESS | Comparison.LESS_EQUAL:
            code = bpf.JUMP_GREATER if condition.comparison is Comparison.LESS_EQUAL else bpf.JUMP_GREATER_EQUAL
            above, same = (bpf.JUMP_GREATER, value_high, _FAILS, _NEXT), (bpf.JUMP_EQUAL, value_high, _NEXT, _HOLDS)
            return [*start, above, same, rest, (code, value_low, _FAILS, _NEXT)]


def _masked(offset: int, mask: int, value: int) -> list[_Line]:
    """One half: equal to `value` once masked. Nothing where that holds for any."""
    if mask == value == 0:
        return []
    masked: list[_Line] = [] if mask == _HALF else [bpf.keep(mask)]
    return [bpf.load(offset), *masked, (bpf.JUMP_EQUAL, value, _NEXT, _FAILS)]
