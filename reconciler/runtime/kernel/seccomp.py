"""seccomp(2): what a filter sees and may answer, and how to load one (include/uapi/linux/seccomp.h).

Standard library only: the child imports this.
"""

from __future__ import annotations

import ctypes
import errno
import os

from reconciler.runtime.kernel import bpf_filter, syscalls

# struct seccomp_data
NUMBER_AT = 0
ARCHITECTURE_AT = 4
ARGUMENTS_AT = 16
ARGUMENTS = 6

KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000
DATA = 0x0000FFFF  # of an answer: the errno, or what the tracer is told

# machine → (AUDIT_ARCH_*, number of seccomp)
MACHINES = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}
X32_BIT = 0x40000000

_SET_MODE_FILTER = 1
# without it kernels before 5.16 slow every filtered process down against speculative stores; later ones never do
_SPEC_ALLOW = 1 << 2


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load(program: bytes) -> None:
    """For the calling thread and all it starts, for good. Needs no_new_privs or CAP_SYS_ADMIN."""
    machine = os.uname().machine
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"seccomp: no filters for {machine}")
    described = _Program(len(program) // bpf_filter.SIZE, program)
    flags = ctypes.c_uint(_SPEC_ALLOW)
    syscalls.call("seccomp", MACHINES[machine][1], _SET_MODE_FILTER, flags, ctypes.byref(described))
