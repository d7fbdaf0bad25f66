"""Profiles in Docker's JSON format, settled for one container: which rules count for its capabilities, on this host.

Format and meaning follow moby/profiles (seccomp/seccomp.go) and the OCI runtime specification. Invariant: nothing of a
profile is left out silently. A key that is not carried out is an error; only names of system calls that this
architecture has not got are passed over, as everywhere. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from reconciler.runtime.kernel import seccomp

T = TypeVar("T")

EPERM = 1
_WORD = 2**64 - 1
# Docker's names of architectures
_DOCKERS = {"x86_64": "amd64", "aarch64": "arm64"}
_ACTIONS = {
    "SCMP_ACT_KILL": seccomp.KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": seccomp.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": seccomp.KILL_PROCESS,
    "SCMP_ACT_TRAP": seccomp.TRAP,
    "SCMP_ACT_ERRNO": seccomp.ERRNO,
    "SCMP_ACT_TRACE": seccomp.TRACE,
    "SCMP_ACT_LOG": seccomp.LOG,
    "SCMP_ACT_ALLOW": seccomp.ALLOW,
}
_WITH_DATA = (seccomp.ERRNO, seccomp.TRACE)
# of the OCI format: what every filter of ours does, or what means nothing to a process of one thread
_FLAGS = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC")


class BadProfile(ValueError):
    """It cannot be carried out: where in it, and why."""


class Comparison(Enum):
    NOT_EQUAL = "SCMP_CMP_NE"
    LESS = "SCMP_CMP_LT"
    LESS_EQUAL = "SCMP_CMP_LE"
    EQUAL = "SCMP_CMP_EQ"
    GREATER_EQUAL = "SCMP_CMP_GE"
    GREATER = "SCMP_CMP_GT"
    MASKED_EQUAL = "SCMP_CMP_MASKED_EQ"


@dataclass(frozen=True, slots=True)
class Condition:
    """Of one argument, compared as 64 bits without a sign; `mask` is all ones but for MASKED_EQUAL."""

    index: int
    comparison: Comparison
    value: int
    mask: int = _WORD


@dataclass(frozen=True, slots=True)
class Rule:
    """answer: what the kernel is told. conditions: all must hold."""

    names: tuple[str, ...]
    answer: int
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """default: the answer to what no rule is about. known: every call the profile names, in rules that count or not."""

    default: int
    rules: tuple[Rule, ...]
    known: frozenset[str]


@dataclass(frozen=True, slots=True)
class Setting:
    """What rules may depend on. kernel: (major, minor). capabilities: the most the container can have, no CAP_."""

    architecture: str
    kernel: tuple[int, int]
    capabilities: frozenset[str]


def read(data: bytes, setting: Setting) -> Profile:
    """Raises BadProfile."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadProfile(f"is not JSON: {error}") from None
    top = _object(document, "the profile")
    _known_keys(top, "", "defaultAction", "defaultErrnoRet", "architectures", "archMap", "flags", "syscalls")
    for flag in _list(top.get("flags"), "flags"):
        if flag not in _FLAGS:
            raise BadProfile(f"flags: {flag!r} cannot be had")
    default = _answer(top, "defaultAction", "defaultErrnoRet", "", EPERM)
    errno = default & seccomp.DATA if default & ~seccomp.DATA == seccomp.ERRNO else EPERM
    rules: list[Rule] = []
    known: set[str] = set()
    for number, each in enumerate(_list(top.get("syscalls"), "syscalls")):
        at = f"syscalls[{number}]"
        written = _object(each, at)
        names = _names(written, at)
        known.update(names)
        found = list(_rules(written, names, at, errno))  # before it is asked whether they count: all is looked at
        if _counts(written, at, setting):
            rules += found
    return Profile(default, tuple(rules), frozenset(known))


def _rules(written: Mapping[str, Any], names: tuple[str, ...], at: str, errno: int) -> Iterator[Rule]:
    keys = ("names", "name", "action", "errnoRet", "args", "comment", "includes", "excludes", "minKernel")
    _known_keys(written, f"{at}.", *keys)
    answer = _answer(written, "action", "errnoRet", f"{at}.", errno)
    args = _list(written.get("args"), f"{at}.args")
    conditions = tuple(_condition(each, f"{at}.args[{number}]") for number, each in enumerate(args))
    indices = [each.index for each in conditions]
    if len(set(indices)) < len(indices):
        # runc's reading: several conditions on one argument are alternatives
        for condition in conditions:
            yield Rule(names, answer, (condition,))
    else:
        yield Rule(names, answer, conditions)


def _names(written: Mapping[str, Any], at: str) -> tuple[str, ...]:
    names = list(_list(written.get("names"), f"{at}.names"))
    if written.get("name"):
        names.append(written["name"])
    if not names:
        raise BadProfile(f"{at}.names: names no system call")
    return tuple(_is(each, str, f"{at}.names") for each in names)


def _answer(written: Mapping[str, Any], key: str, data_key: str, prefix: str, errno: int) -> int:
    name = _is(written.get(key), str, f"{prefix}{key}")
    if name == "SCMP_ACT_NOTIFY":
        raise BadProfile(f"{prefix}{key}: SCMP_ACT_NOTIFY cannot be had: there is nobody to notify")
    if name not in _ACTIONS:
        raise BadProfile(f"{prefix}{key}: {name!r} is none of {', '.join(_ACTIONS)}")
    data = _number(written.get(data_key), f"{prefix}{data_key}", seccomp.DATA, errno)
    return _ACTIONS[name] | (data if _ACTIONS[name] in _WITH_DATA else 0)


def _condition(written: Any, at: str) -> Condition:
    given = _object(written, at)
    _known_keys(given, f"{at}.", "index", "value", "valueTwo", "op")
    index = _number(given.get("index"), f"{at}.index", seccomp.ARGUMENTS - 1)
    value = _number(given.get("value"), f"{at}.value", _WORD, 0)
    second = _number(given.get("valueTwo"), f"{at}.valueTwo", _WORD, 0)
    try:
        comparison = Comparison(given.get("op"))
    except ValueError:
        names = ", ".join(each.value for each in Comparison)
        raise BadProfile(f"{at}.op: {given.get('op')!r} is none of {names}") from None
    if comparison is Comparison.MASKED_EQUAL:
        return Condition(index, comparison, second, mask=value)
    return Condition(index, comparison, value)


def _counts(written: Mapping[str, Any], at: str, setting: Setting) -> bool:
    """Does the rule hold for this container on this host?"""
    includes, excludes = _filter(written, "includes", at), _filter(written, "excludes", at)
    minimum = _kernel(written.get("minKernel") or includes.get("minKernel"), at)
    below = _kernel(excludes.get("minKernel"), at)
    arch = _DOCKERS.get(setting.architecture, setting.architecture)
    has = {f"CAP_{name}" for name in setting.capabilities}
    arches, no_arches = _list(includes.get("arches"), at), _list(excludes.get("arches"), at)
    return (
        (minimum is None or setting.kernel >= minimum)
        and (below is None or setting.kernel < below)
        and (not arches or arch in arches)
        and arch not in no_arches
        and has.issuperset(_list(includes.get("caps"), at))
        and has.isdisjoint(_list(excludes.get("caps"), at))
    )


def _filter(written: Mapping[str, Any], key: str, at: str) -> Mapping[str, Any]:
    found = _object(written.get(key) or {}, f"{at}.{key}")
    _known_keys(found, f"{at}.{key}.", "caps", "arches", "minKernel")
    return found


def _kernel(written: Any, at: str) -> tuple[int, int] | None:
    if not written:
        return None
    major, dot, minor = _is(written, str, f"{at}.minKernel").partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise BadProfile(f'{at}.minKernel: {written!r} is no version, such as "5.15"')
    return int(major), int(minor)


def _known_keys(found: Mapping[str, Any], prefix: str, *keys: str) -> None:
    for key in found:
        if key not in keys:
            raise BadProfile(f"{prefix}{key}: is not known here; there are: {', '.join(keys)}")


def _object(found: Any, at: str) -> dict[str, Any]:
    return _is(found, dict, at)


def _list(found: Any, at: str) -> list[Any]:
    return [] if found is None else _is(found, list, at)


def _number(found: Any, at: str, highest: int, default: int | None = None) -> int:
    if found is None and default is not None:
        return default
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= highest:
        raise BadProfile(f"{at}: {found!r} is no whole number from 0 to {highest}")
    return found


def _is(found: Any, kind: type[T], at: str) -> T:
    if not isinstance(found, kind):
        raise BadProfile(f"{at}: {found!r} is not what belongs there")
    return found
