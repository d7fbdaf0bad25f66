"""Isolator `cgroups/devices`: which devices the processes of a container may open or make nodes of.

Deny all but Docker's default list (every node may be made, null, zero, full, random, urandom, tty, console and
pseudo-terminals may be used) and what other isolators give; `privileged` is not restricted. Being root in a container,
or having found a node, is then not enough to reach a disk. What encloses a container restricts it too: the kernel asks
every cgroup up to the root.

With a cgroup2 mount, hybrid hosts included, a BPF program of the container's cgroup decides (CGROUP_DEVICE); else the
files of v1 (Documentation/admin-guide/cgroup-v1/devices.rst).
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Protocol

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, PassiveIsolator, Support
from reconciler.runtime.kernel import bpf, cgroups
from reconciler.runtime.kernel.cgroups import UNIFIED, CgroupMap

_ACCESS = {"m": 1, "r": 2, "w": 4}
_KIND = {"b": 1, "c": 2}


@dataclass(frozen=True, slots=True)
class Rule:
    """What is allowed. kind: "c" or "b"; major, minor: None for any; access: some of "rwm"."""

    kind: str
    major: int | None
    minor: int | None
    access: str

    def line(self) -> str:
        """As v1's devices.allow takes it."""
        numbers = ("*" if number is None else str(number) for number in (self.major, self.minor))
        return f"{self.kind} {':'.join(numbers)} {self.access}"


DEFAULT = (
    Rule("c", None, None, "m"),
    Rule("b", None, None, "m"),
    *(Rule("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),  # null zero full random urandom
    *(Rule("c", 5, minor, "rwm") for minor in (0, 1, 2)),  # tty console ptmx
    Rule("c", 136, None, "rwm"),  # pts
)


class Giver(Protocol):
    """An isolator that gives a container devices. Those of its `prepare` are known when it is asked."""

    def rules(self, config: ContainerConfig, context: Context) -> tuple[Rule, ...]: ...


class DevicesIsolator(PassiveIsolator):
    name = "cgroups/devices"

    def __init__(self, cgroup_map: CgroupMap, givers: Sequence[Giver] = ()) -> None:
        """givers: isolators that let containers have more than the default."""
        self._map = cgroup_map
        self._givers = tuple(givers)
        self._unavailable = unavailable(cgroup_map)
        self.controllers = needed(cgroup_map)

    def support(self) -> Support:
        why = self._unavailable
        return Support(Level.NOT_HERE, f"{why}; devices are not restricted") if why else Support()

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        if not config.spec.security.privileged and not self._unavailable:
            more = (rule for giver in self._givers for rule in giver.rules(config, context))
            self.restrict(context, (*DEFAULT, *more))
        return None

    def restrict(self, context: Context, rules: tuple[Rule, ...]) -> None:
        """For a cgroup that was just made."""
        if UNIFIED in context.cgroups:
            with contextlib.ExitStack() as fds:
                if rules == DEFAULT:
                    code = default_program()
                else:
                    code = bpf.load_device_program(program(rules))
                    fds.callback(os.close, code)
                cgroup = os.open(context.cgroups[UNIFIED], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fds.callback(os.close, cgroup)
                bpf.attach_to_devices(cgroup, code)
        elif (hierarchy := self._map.hierarchy_of("devices")) is not None and hierarchy.name in context.cgroups:
            directory = context.cgroups[hierarchy.name]
            cgroups.write(directory, "devices.deny", "a")
            for rule in rules:
                cgroups.write(directory, "devices.allow", rule.line())


def default_program() -> int:
    """What nearly all have, loaded once and held for as long as we live: to load it takes up to a millisecond."""
    with _loading:
        return _default_program()


@cache
def _default_program() -> int:
    return bpf.load_device_program(program(DEFAULT))


_loading = threading.Lock()


def needed(cgroup_map: CgroupMap) -> frozenset[str]:
    """The cgroup controllers that it takes: none where a program does it."""
    return frozenset() if cgroup_map.unified is not None else frozenset({"devices"})


def unavailable(cgroup_map: CgroupMap) -> str:
    """Why devices cannot be restricted here; "" when they can."""
    if cgroup_map.unified is None:
        return "" if cgroup_map.hierarchy_of("devices") else "no cgroup2 and no v1 `devices` hierarchy is mounted"
    try:
        os.close(bpf.load_device_program(program(())))
    except OSError as error:
        why = "needs CAP_SYS_ADMIN, or CAP_BPF and CAP_NET_ADMIN" if error.errno == errno.EPERM else str(error)
        return f"the kernel takes no device program: {why}"
    return ""


# ---- the program: struct bpf_cgroup_dev_ctx {access << 16 | type, major, minor} → 1 to allow, 0 to deny

_LOAD_WORD, _AND, _SHIFT_RIGHT, _MOVE, _COPY, _EXIT = 0x61, 0x54, 0x74, 0xB7, 0xBC, 0x95
_UNLESS, _UNLESS_SAME = 0x55, 0x5D  # jump if the register is not that value; not as that other register
_RESULT, _CONTEXT, _TYPE, _ASKED, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 6


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, to | source << 4, offset, value)


@lru_cache(maxsize=16)
def program(rules: tuple[Rule, ...]) -> bytes:
    """Instructions that allow what one of the rules allows as a whole."""
    code = [
        _instruction(_LOAD_WORD, _TYPE, _CONTEXT, 0),
        _instruction(_COPY, _ASKED, _TYPE),
        _instruction(_AND, _TYPE, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _ASKED, value=16),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
        *(_allowing(rule) for rule in rules),
        _instruction(_MOVE, _RESULT, value=0),
        _instruction(_EXIT),
    ]
    return b"".join(code)


def _allowing(rule: Rule) -> bytes:
    """Past it all if anything differs, or anything is asked for that is not allowed: asked & allowed is not asked."""
    allowed = sum(_ACCESS[letter] for letter in rule.access)
    block: list[tuple[int, int, int, int]] = [
        (_COPY, _SCRATCH, _ASKED, 0),
        (_AND, _SCRATCH, 0, allowed),
        (_UNLESS_SAME, _SCRATCH, _ASKED, 0),
        (_UNLESS, _TYPE, 0, _KIND[rule.kind]),
    ]
    numbers = ((_MAJOR, rule.major), (_MINOR, rule.minor))
    block += [(_UNLESS, register, 0, number) for register, number in numbers if number is not None]
    block += [(_MOVE, _RESULT, 0, 1), (_EXIT, 0, 0, 0)]
    jumps = (_UNLESS, _UNLESS_SAME)
    return b"".join(
        _instruction(code, to, source, len(block) - at - 1 if code in jumps else 0, value)
        for at, (code, to, source, value) in enumerate(block)
    )
