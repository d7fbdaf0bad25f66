"""Profiles in Docker's format: what is read of them, for whom a rule counts, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.runtime.isolators.seccomp import DEFAULT
from reconciler.runtime.kernel import seccomp
from reconciler.runtime.seccomp import table
from reconciler.runtime.seccomp.profile import BadProfile, Setting, read
from tests.unit.runtime.filters import ALLOW, EPERM, Filter

HERE = Setting("x86_64", (6, 1), frozenset({"CHOWN"}))


def written(*rules: dict[str, Any], **top: Any) -> bytes:
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **top}).encode()


def allow(*names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **more}


def counts(more: dict[str, Any], setting: Setting = HERE) -> bool:
    return bool(read(written(allow("read", **more)), setting).rules)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, True),
        ({"includes": {}, "excludes": None}, True),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}}, False),
        ({"excludes": {"caps": ["CAP_KILL", "CAP_CHOWN"]}}, False),
        ({"excludes": {"caps": ["CAP_KILL"]}}, True),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"excludes": {"minKernel": "5.15"}}, False),
        ({"minKernel": "7.0"}, False),
    ],
    ids=str,
)
def test_a_rule_counts_by_capabilities_architecture_and_kernel(more: dict[str, Any], expected: bool) -> None:
    assert counts(more) is expected


def test_a_name_this_architecture_has_not_got_is_passed_over() -> None:
    profile = read(written(allow("read", "s390_pci_mmio_read", "of_tomorrow")), HERE)
    assert Filter.of(profile).answer(0) == ALLOW


def test_old_profiles_name_one_call_at_a_time() -> None:
    assert read(written({"name": "read", "action": "SCMP_ACT_ALLOW", "args": None}), HERE).rules[0].names == ("read",)


def test_a_mask_is_written_first_and_what_it_must_leave_second() -> None:
    args = [{"index": 1, "value": 0xF0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ"}]
    condition = read(written(allow("read", args=args)), HERE).rules[0].conditions[0]
    assert (condition.index, condition.mask, condition.value) == (1, 0xF0, 0x10)


def test_several_conditions_on_one_argument_are_alternatives_on_different_ones_all_must_hold() -> None:
    def with_indices(*indices: int) -> list[int]:
        args = [{"index": index, "value": index + 1, "op": "SCMP_CMP_EQ"} for index in indices]
        return [len(rule.conditions) for rule in read(written(allow("read", args=args)), HERE).rules]

    assert with_indices(0, 0, 1) == [1, 1, 1] and with_indices(0, 1) == [2]


@pytest.mark.parametrize(
    ("action", "data", "answer"),
    [
        ("SCMP_ACT_KILL", None, seccomp.KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", None, seccomp.KILL_PROCESS),
        ("SCMP_ACT_TRAP", 5, seccomp.TRAP),
        ("SCMP_ACT_LOG", None, seccomp.LOG),
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", 38, seccomp.ERRNO | 38),
        ("SCMP_ACT_ERRNO", 0, seccomp.ERRNO),
        ("SCMP_ACT_TRACE", 7, seccomp.TRACE | 7),
    ],
)
def test_every_action_has_its_answer(action: str, data: int | None, answer: int) -> None:
    assert read(written({"names": ["read"], "action": action, "errnoRet": data}), HERE).rules[0].answer == answer


def test_the_errno_of_a_rule_without_one_is_the_profiles() -> None:
    profile = read(written({"names": ["read"], "action": "SCMP_ACT_ERRNO"}, defaultErrnoRet=38), HERE)
    assert profile.default == profile.rules[0].answer == seccomp.ERRNO | 38


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "the profile"),
        (b"{}", "defaultAction"),
        (written(defaultAction="ALLOW"), "defaultAction: 'ALLOW' is none of SCMP_ACT"),
        (written(listenerPath="/x"), "listenerPath: is not known"),
        (written(flags=["SECCOMP_FILTER_FLAG_LOG"]), "flags: 'SECCOMP_FILTER_FLAG_LOG'"),
        (written(allow()), r"syscalls\[0\].names: names no system call"),
        (written(allow("read"), allow(7)), r"syscalls\[1\].names: 7"),  # type: ignore[arg-type]
        (written({"names": ["read"], "action": "SCMP_ACT_NOTIFY"}), r"syscalls\[0\].action: SCMP_ACT_NOTIFY"),
        (written(allow("read", arguments=[])), r"syscalls\[0\].arguments: is not known"),
        (written(allow("read", args=[{"index": 6, "op": "SCMP_CMP_EQ"}])), r"args\[0\].index: 6"),
        (written(allow("read", args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}])), r"args\[0\].value: -1"),
        (written(allow("read", args=[{"index": 0, "value": 1, "op": "="}])), r"args\[0\].op: '='"),
        (written(allow("read", includes={"caps": "CAP_KILL"})), r"syscalls\[0\]: 'CAP_KILL'"),
        (written(allow("read", includes={"arches": ["arm64"]}, args=[{}])), r"args\[0\].index"),
        (written(allow("read", minKernel="six")), "minKernel: 'six'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_carried_out_is_refused_with_its_place(data: bytes, said: str) -> None:
    with pytest.raises(BadProfile, match=said):
        read(data, HERE)


@pytest.mark.parametrize("architecture", table.ARCHITECTURES)
def test_our_own_profile_names_calls_that_exist(architecture: str) -> None:
    known = read(DEFAULT.read_bytes(), Setting(architecture, (6, 1), frozenset())).known
    assert known <= table.numbers("x86_64").keys()


def test_both_tables_agree_where_the_kernel_says_they_do() -> None:
    x86_64, aarch64 = table.numbers("x86_64"), table.numbers("aarch64")
    for name in x86_64.keys() & aarch64.keys():
        assert (x86_64[name] == aarch64[name]) or min(x86_64[name], aarch64[name]) < 424, name
    assert len(set(x86_64.values())) == len(x86_64) and len(set(aarch64.values())) == len(aarch64)
