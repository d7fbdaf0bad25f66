"""Capabilities of the calling thread (capabilities(7)): names, the sets, and how to let go of them.

Names are those of include/uapi/linux/capability.h without their prefix, in the order of their numbers. What the kernel
knows beyond the last of them has no name here and is never kept. Standard library only: the child imports this.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from reconciler.runtime.kernel import syscalls

NAMES: tuple[str, ...] = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
NUMBERS: dict[str, int] = {name: number for number, name in enumerate(NAMES)}

PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_HIGHEST = 63  # two words of 32 bits


# struct __user_cap_header_struct (this thread) and two of struct __user_cap_data_struct: plain bytes, because making
# types and objects of ctypes would cost each child more than the calls
_HEADER = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
_SETS = struct.Struct("=6I")  # effective, permitted, inheritable of the lower 32, then of the higher

_libc = ctypes.PyDLL(None, use_errno=True)


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def mask(names: Iterable[str]) -> int:
    """The bits of these names. Raises KeyError for one that is no capability."""
    found = 0
    for name in names:
        found |= 1 << NUMBERS[name]
    return found


def names(bits: int) -> frozenset[str]:
    """The names of these bits; those without one are left out."""
    return frozenset(name for name, number in NUMBERS.items() if bits >> number & 1)


def permitted() -> int:
    """Our permitted set."""
    _, low, _, _, high, _ = _get()
    return int(low | high << 32)


def _get() -> tuple[int, ...]:
    data = ctypes.create_string_buffer(_SETS.size)
    _check(_libc.capget(_HEADER, data), "capget")
    return _SETS.unpack(data.raw)


def bounding() -> int:
    """What a program of ours could have at most."""
    found = 0
    for number in range(_HIGHEST + 1):
        try:
            inside = syscalls.prctl(PR_CAPBSET_READ, number)
        except OSError as error:
            if error.errno == errno.EINVAL:  # one above the last that the kernel knows
                break
            raise
        found |= inside << number
    return found


def inherit(bits: int) -> None:
    """Inheritable becomes what we have of `bits`: to be done before these are dropped from the bounding set."""
    effective, low, _, higher, high, _ = _get()
    sets = (effective, low, low & bits, higher, high, high & bits >> 32)
    _check(_libc.capset(_HEADER, _SETS.pack(*sets)), "capset")


def hold(bits: int, *, inheriting: bool = False) -> None:
    """Permitted and effective become `bits`, or what we have of them; inheritable and ambient nothing, or the same if
    `inheriting`: then an exec leaves them to whatever user we are. See `inherit`."""
    try:
        _set(bits, inheriting=inheriting)
    except PermissionError:
        bits &= permitted()
        _set(bits, inheriting=inheriting)
    syscalls.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    if inheriting:
        for number in range(_HIGHEST + 1):
            if bits >> number & 1:
                syscalls.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def _set(bits: int, *, inheriting: bool) -> None:
    low, high = bits & 0xFFFFFFFF, bits >> 32
    sets = (low, low, low if inheriting else 0, high, high, high if inheriting else 0)
    _check(_libc.capset(_HEADER, _SETS.pack(*sets)), "capset")


def limit(bits: int) -> None:
    """Drop all but `bits` from the bounding set, for good. Needs SETPCAP unless nothing is to drop."""
    for number in range(_HIGHEST + 1):
        if bits >> number & 1:
            continue
        try:
            syscalls.prctl(PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno == errno.EINVAL:  # one above the last that the kernel knows
                return
            if syscalls.prctl(PR_CAPBSET_READ, number):
                raise
