"""The built-in profile and the compiler, asked by an interpreter of BPF, with libseccomp as the judge."""

from __future__ import annotations

import itertools
import os
import random

import pytest

from reconciler.runtime.isolators.capabilities import DEFAULT
from reconciler.runtime.kernel import bpf_filter, seccomp
from reconciler.runtime.seccomp import compiler, table
from reconciler.runtime.seccomp.profile import Comparison, Condition, Profile, Rule
from tests.unit.runtime.filters import ALLOW, ENOSYS, EPERM, Filter, Judge, library, profile

X86 = table.numbers("x86_64")
I386 = 0x40000003  # AUDIT_ARCH_I386
NEWNS, NEWUSER, NEWNET, NEWCGROUP = 0x00020000, 0x10000000, 0x40000000, 0x02000000
THREAD = 0x003D0F00  # what pthread_create gives clone

WORDS = (0, 1, 2, 8, 37, 38, 40, 0x20008, 2**31, 2**32 - 1, 2**32, 2**32 + 38, 2**63, 2**64 - 1, NEWUSER | 17, THREAD)
CAPABILITY_SETS = [(), tuple(DEFAULT), (*DEFAULT, "SYS_ADMIN"), ("SYS_PTRACE", "BPF", "SYS_TIME", "SYS_NICE")]


@pytest.fixture(scope="module")
def default() -> Filter:
    """For a container with the default capabilities."""
    return Filter.of(profile(tuple(DEFAULT)))


@pytest.mark.parametrize("name", ["read", "openat", "execve", "futex", "ptrace", "chroot", "rseq", "mseal", "statx"])
def test_what_programs_live_on_is_allowed(default: Filter, name: str) -> None:
    assert default.answer(X86[name]) == ALLOW


REFUSED = "mount umount2 unshare setns pivot_root bpf perf_event_open userfaultfd keyctl add_key kexec_load init_module"
REFUSED += (
    " io_uring_setup io_uring_enter io_uring_register open_by_handle_at swapon reboot settimeofday fsopen open_tree"
)


@pytest.mark.parametrize("name", REFUSED.split())
def test_what_reaches_for_the_host_is_refused(default: Filter, name: str) -> None:
    assert default.answer(X86[name]) == EPERM


def test_clone_makes_threads_and_processes_but_no_namespace(default: Filter) -> None:
    assert default.answer(X86["clone"], THREAD) == default.answer(X86["clone"], 17) == ALLOW
    for flag in (NEWNS, NEWUSER, NEWNET, NEWCGROUP):
        assert default.answer(X86["clone"], flag | 17) == EPERM
        assert default.answer(X86["clone"], flag | 2**40) == EPERM, "bits that the kernel does not look at hide nothing"


def test_clone3_sends_its_callers_back_to_clone(default: Filter) -> None:
    assert default.answer(X86["clone3"]) == ENOSYS
    assert Filter.of(profile(("SYS_ADMIN",))).answer(X86["clone3"]) == ALLOW


@pytest.mark.parametrize(
    ("family", "answer"), [(1, ALLOW), (2, ALLOW), (10, ALLOW), (16, ALLOW), (38, EPERM), (40, EPERM)]
)
def test_sockets_of_the_kernels_crypto_and_of_virtual_machines_are_refused(
    default: Filter, family: int, answer: int
) -> None:
    assert default.answer(X86["socket"], family) == answer
    assert default.answer(X86["socket"], family | 2**32) == answer, "the kernel takes the low half"


def test_personality_is_asked_or_set_to_the_harmless(default: Filter) -> None:
    for allowed in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert default.answer(X86["personality"], allowed) == ALLOW
    assert default.answer(X86["personality"], 0x0040000) == EPERM, "ADDR_NO_RANDOMIZE"


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        *[("SYS_ADMIN", name) for name in ("mount", "unshare", "setns", "clone", "bpf", "fsopen", "syslog")],
        *[("BPF", "bpf"), ("PERFMON", "perf_event_open"), ("SYSLOG", "syslog"), ("SYS_BOOT", "reboot")],
        *[("SYS_CHROOT", "chroot"), ("SYS_MODULE", "init_module"), ("SYS_NICE", "mbind"), ("SYS_TIME", "settimeofday")],
        *[("DAC_READ_SEARCH", "open_by_handle_at"), ("SYS_PTRACE", "pidfd_getfd"), ("SYS_RAWIO", "iopl")],
        *[("SYS_PACCT", "acct"), ("SYS_TTY_CONFIG", "vhangup")],
    ],
)
def test_what_a_capability_is_for_comes_with_it(capability: str, name: str) -> None:
    assert Filter.of(profile((capability,))).answer(X86[name], NEWUSER) == ALLOW
    assert Filter.of(profile(())).answer(X86[name], NEWUSER) == EPERM


def test_what_the_profile_has_never_heard_of_does_not_exist(default: Filter) -> None:
    newest = max(X86.values())
    assert {default.answer(number) for number in (newest + 1, newest + 100, 600, 2**29)} == {ENOSYS}
    assert default.answer(400) == ENOSYS, "a number between the old and the new ones that no call has"
    assert default.answer(-1) == default.answer(X86["read"] | seccomp.X32_BIT) == ENOSYS


def test_another_architectures_calls_end_the_process(default: Filter) -> None:
    assert default.answer(X86["read"], audit=I386) == seccomp.KILL_PROCESS


@pytest.mark.parametrize("architecture", table.ARCHITECTURES)
@pytest.mark.parametrize("capabilities", CAPABILITY_SETS, ids=len)
def test_it_is_short_and_quick_for_every_call(architecture: str, capabilities: tuple[str, ...]) -> None:
    asked = Filter.of(profile(capabilities, architecture), architecture)
    assert len(asked.program) < 300
    longest = 0
    for number in table.numbers(architecture).values():
        asked.answer(number, 99)
        longest = max(longest, asked.steps)
    assert longest < 60, "sockets and personalities have a list of their own"


@pytest.mark.skipif(not library(), reason="needs libseccomp2, as the judge")
@pytest.mark.parametrize("capabilities", CAPABILITY_SETS, ids=len)
def test_libseccomp_says_the_same_of_every_call(capabilities: tuple[str, ...]) -> None:
    architecture = os.uname().machine
    numbers, settled = table.numbers(architecture), profile(capabilities, architecture)
    ours, judge = Filter.of(settled, architecture), Judge(settled, architecture)
    for name, number in numbers.items():
        words = WORDS if name in ("clone", "socket", "personality") else (0, 2**64 - 1)
        for word in words:
            assert ours.answer(number, word) == judge.answer(number, word), (name, word)


@pytest.mark.skipif(not library() or os.uname().machine != "x86_64", reason="needs libseccomp2, and foreign ABIs")
def test_no_call_of_a_foreign_abi_gets_through_as_libseccomp_has_it(default: Filter) -> None:
    """That of i386, which int 0x80 reaches, and x32, which has the architecture of x86_64 and a bit in the number."""
    judge = Judge(profile(tuple(DEFAULT)), "x86_64")
    for number in range(600):
        assert default.answer(number, audit=I386) == seccomp.KILL_PROCESS, number
        assert default.answer(number | seccomp.X32_BIT) == ENOSYS, number
        assert ALLOW not in (judge.answer(number, audit=I386), judge.answer(number | seccomp.X32_BIT)), number


def rule(comparison: Comparison, value: int, mask: int = 2**64 - 1, index: int = 0) -> Condition:
    return Condition(index, comparison, value, mask if comparison is Comparison.MASKED_EQUAL else 2**64 - 1)


TRUE = {
    Comparison.NOT_EQUAL: lambda word, value, mask: word != value,
    Comparison.LESS: lambda word, value, mask: word < value,
    Comparison.LESS_EQUAL: lambda word, value, mask: word <= value,
    Comparison.EQUAL: lambda word, value, mask: word == value,
    Comparison.GREATER_EQUAL: lambda word, value, mask: word >= value,
    Comparison.GREATER: lambda word, value, mask: word > value,
    Comparison.MASKED_EQUAL: lambda word, value, mask: word & mask == value,
}


@pytest.mark.parametrize("comparison", list(Comparison), ids=lambda each: each.name)
@pytest.mark.parametrize("index", [0, 5])
def test_arguments_are_compared_as_64_bits_without_a_sign(comparison: Comparison, index: int) -> None:
    edges = [0, 1, 5, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**63, 2**64 - 1]
    masks = [2**64 - 1, 0xFFFFFFFF, 2**63, 0] if comparison is Comparison.MASKED_EQUAL else [2**64 - 1]
    for value, mask in itertools.product(edges, masks):
        made = Rule(("read",), ALLOW, (rule(comparison, value, mask, index),))
        asked = Filter.of(Profile(EPERM, (made,), frozenset({"read"})))
        for word in edges:
            expected = ALLOW if TRUE[comparison](word, value, mask) else EPERM
            assert asked.answer(X86["read"], *[7] * index, word) == expected, (comparison, word, value, mask)


def conditions(chance: random.Random) -> tuple[Condition, ...]:
    indices = chance.sample(range(6), chance.randint(0, 3))
    mask = 2**33 - 1
    return tuple(rule(chance.choice(list(Comparison)), chance.choice(EDGES), mask, index) for index in indices)


EDGES = [0, 3, 2**32 - 1, 2**32 + 3]


@pytest.mark.parametrize("seed", range(8))
def test_a_call_is_allowed_when_any_of_its_rules_holds_in_full(seed: int) -> None:
    chance = random.Random(seed)
    names = chance.sample(sorted(X86), 40)
    rules = tuple(Rule((name,), ALLOW, conditions(chance)) for name in names for _ in range(chance.randint(1, 3)))
    asked = Filter.of(Profile(EPERM, rules, frozenset(X86)))
    for name in names:
        for _ in range(30):
            words = [chance.choice(EDGES) for _ in range(6)]
            holds = any(name in each.names and all(_true(test, words) for test in each.conditions) for each in rules)
            assert asked.answer(X86[name], *words) == (ALLOW if holds else EPERM), (name, words)


def _true(condition: Condition, words: list[int]) -> bool:
    return bool(TRUE[condition.comparison](words[condition.index], condition.value, condition.mask))


@pytest.mark.skipif(not library(), reason="needs libseccomp2, as the judge")
@pytest.mark.parametrize("seed", range(8))
def test_libseccomp_says_the_same_of_rules_at_random(seed: int) -> None:
    chance, architecture = random.Random(seed), os.uname().machine
    numbers = table.numbers(architecture)
    names = chance.sample(sorted(numbers), 40)
    # one rule for a call: of several on different arguments libseccomp 2.5 makes what neither of them says
    settled = Profile(EPERM, tuple(Rule((name,), ALLOW, conditions(chance)) for name in names), frozenset(numbers))
    ours, judge = Filter.of(settled, architecture), Judge(settled, architecture)
    for name in names:
        for _ in range(60):
            words = [chance.choice(EDGES) for _ in range(6)]
            assert ours.answer(numbers[name], *words) == judge.answer(numbers[name], *words), (name, words)


def test_a_rule_without_conditions_settles_its_calls_and_else_the_first_that_holds_counts() -> None:
    narrow = (rule(Comparison.EQUAL, 1),)
    trap = seccomp.TRAP
    asked = Filter.of(Profile(EPERM, (Rule(("read",), trap, narrow), Rule(("read",), ALLOW)), frozenset({"read"})))
    assert asked.answer(X86["read"], 1) == ALLOW
    asked = Filter.of(
        Profile(EPERM, (Rule(("read",), trap, narrow), Rule(("read",), ALLOW, narrow)), frozenset({"read"}))
    )
    assert (asked.answer(X86["read"], 1), asked.answer(X86["read"], 2)) == (trap, EPERM)


def test_a_profile_that_lets_through_by_default_lets_new_calls_through() -> None:
    asked = Filter.of(Profile(ALLOW, (Rule(("read",), EPERM),), frozenset({"read"})))
    assert (asked.answer(0), asked.answer(1), asked.answer(5000)) == (EPERM, ALLOW, ALLOW)


def test_a_profile_longer_than_the_kernel_takes_is_refused() -> None:
    many = tuple(Rule(("read",), ALLOW, (rule(Comparison.EQUAL, word),)) for word in range(2000))
    with pytest.raises(ValueError, match="instructions"):
        compiler.compiled(Profile(EPERM, many, frozenset({"read"})), "x86_64")


def test_jumps_over_more_than_a_jump_can_reach_are_right() -> None:
    many = tuple(Rule(("lseek",), ALLOW, (rule(Comparison.EQUAL, word << 32 | 1),)) for word in range(200))
    asked = Filter.of(Profile(EPERM, (*many, Rule(("read", "getpid"), ALLOW)), frozenset(X86)))
    assert len(asked.program) > bpf_filter.FURTHEST * 3
    assert (
        asked.answer(X86["lseek"], 199 << 32 | 1) == asked.answer(X86["read"]) == asked.answer(X86["getpid"]) == ALLOW
    )
    assert asked.answer(X86["lseek"], 1 << 40) == asked.answer(X86["mount"]) == EPERM
