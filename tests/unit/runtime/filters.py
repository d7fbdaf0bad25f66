"""What a filter says to a system call: by an interpreter of classic BPF, and by libseccomp, an independent judge."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import tempfile
from collections.abc import Sequence

from reconciler.runtime.isolators.seccomp import DEFAULT
from reconciler.runtime.kernel import bpf_filter as bpf
from reconciler.runtime.kernel import seccomp
from reconciler.runtime.seccomp import compiler, table
from reconciler.runtime.seccomp.profile import Comparison, Condition, Profile, Rule, Setting, read

ALLOW, EPERM, ENOSYS = seccomp.ALLOW, seccomp.ERRNO | errno.EPERM, seccomp.ERRNO | errno.ENOSYS
KERNEL = (6, 1)


def profile(
    capabilities: Sequence[str] = (), architecture: str = "x86_64", kernel: tuple[int, int] = KERNEL
) -> Profile:
    """Our own, settled."""
    return read(DEFAULT.read_bytes(), Setting(architecture, kernel, frozenset(capabilities)))


class Filter:
    """A program to ask. `steps`: how many instructions the last answer took."""

    def __init__(self, program: bytes, architecture: str = "x86_64") -> None:
        self.program = bpf.decode(program)
        self.audit = seccomp.MACHINES[architecture][0]
        self.steps = 0

    @classmethod
    def of(cls, profile: Profile, architecture: str = "x86_64") -> Filter:
        return cls(compiler.compiled(profile, architecture), architecture)

    def answer(self, number: int, *arguments: int, audit: int | None = None) -> int:
        padded = [*arguments, 0, 0, 0, 0, 0, 0][: seccomp.ARGUMENTS]
        data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, audit or self.audit, 0, *padded)
        at, accumulator, self.steps = 0, 0, 0
        while True:
            code, on_true, on_false, value = self.program[at]
            at += 1
            self.steps += 1
            if code == bpf.LOAD:
                (accumulator,) = struct.unpack_from("=I", data, value)
            elif code == bpf.AND:
                accumulator &= value
            elif code == bpf.JUMP:
                at += value
            elif code == bpf.RETURN:
                return value
            else:
                at += on_true if _HOLDS[code](accumulator, value) else on_false


_HOLDS = {
    bpf.JUMP_EQUAL: int.__eq__,
    bpf.JUMP_GREATER: int.__gt__,
    bpf.JUMP_GREATER_EQUAL: int.__ge__,
}


class _Argument(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64))


_OPS = {each: number for number, each in enumerate(Comparison, 1)}


class Judge:
    """The same rules, compiled by libseccomp for this machine's architecture. Raises OSError where there is none."""

    def __init__(self, profile: Profile, architecture: str) -> None:
        self.lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.lib.seccomp_init(ctypes.c_uint32(profile.default)))
        numbers = table.numbers(architecture)
        try:
            for rule in profile.rules:
                for name in rule.names:
                    if rule.answer != profile.default and name in numbers:
                        self._add(rule, numbers[name])
            self.filter = Filter(self._exported(), architecture)
        finally:
            self.lib.seccomp_release(self.context)

    def _add(self, rule: Rule, number: int) -> None:
        wanted = [_argument(each) for each in rule.conditions]
        array = (_Argument * len(wanted))(*wanted)
        result = self.lib.seccomp_rule_add_array(self.context, ctypes.c_uint32(rule.answer), number, len(wanted), array)
        if result not in (0, -errno.EEXIST):
            raise OSError(-result, f"seccomp_rule_add of {number}: {os.strerror(-result)}")

    def _exported(self) -> bytes:
        with tempfile.TemporaryFile() as file:
            if result := self.lib.seccomp_export_bpf(self.context, file.fileno()):
                raise OSError(-result, "seccomp_export_bpf")
            file.seek(0)
            return file.read()

    def answer(self, number: int, *arguments: int, audit: int | None = None) -> int:
        return self.filter.answer(number, *arguments, audit=audit)


def _argument(condition: Condition) -> _Argument:
    if condition.comparison is Comparison.MASKED_EQUAL:
        return _Argument(condition.index, _OPS[condition.comparison], condition.mask, condition.value)
    return _Argument(condition.index, _OPS[condition.comparison], condition.value, 0)


def library() -> bool:
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    return True
