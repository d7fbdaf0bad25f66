"""bpf(2), as far as device programs of a cgroup need it (include/uapi/linux/bpf.h).

The number of the system call is the one thing here that differs between architectures. Instructions are struct
bpf_insn: code, destination and source register in one byte, jump offset, immediate.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from reconciler.runtime.kernel import syscalls

_SYS_BPF = 321 if os.uname().machine == "x86_64" else 280

_PROG_LOAD, _PROG_ATTACH, _PROG_QUERY = 5, 8, 16
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_LOG_SIZE = 1 << 16
_ATTEMPTS = 5  # the verifier gives up with EAGAIN when a signal is pending


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return syscalls.call("bpf", _SYS_BPF, command, ctypes.byref(buffer), ctypes.c_uint(len(attributes)))


def load_device_program(instructions: bytes) -> int:
    """A descriptor of the program. Raises OSError: EPERM without CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN), ENOSYS,
    and with the verifier's own words EINVAL or EACCES."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    said = ctypes.create_string_buffer(_LOG_SIZE)

    def attributes(log: bool) -> bytes:
        count = len(instructions) // 8
        addresses = (ctypes.addressof(code), ctypes.addressof(licence))
        logging = (1, _LOG_SIZE, ctypes.addressof(said)) if log else (0, 0, 0)
        return struct.pack("=IIQQIIQII16s", _TYPE_CGROUP_DEVICE, count, *addresses, *logging, 0, 0, b"devices")

    for attempt in range(_ATTEMPTS):
        try:
            return _bpf(_PROG_LOAD, attributes(log=False))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EACCES):
                break
            if error.errno != errno.EAGAIN or attempt == _ATTEMPTS - 1:
                raise
    try:
        return _bpf(_PROG_LOAD, attributes(log=True))
    except OSError as error:
        words = said.value.decode(errors="replace").strip().splitlines()
        raise OSError(error.errno, f"bpf: {words[-1] if words else error.strerror}") from None


def attach_to_devices(cgroup: int, program: int) -> None:
    """Have the program asked for every open and mknod of a device by what is in that cgroup or below it, beside the
    programs further up: all of them must agree. It stays for as long as the cgroup."""
    _bpf(_PROG_ATTACH, struct.pack("=IIIII", cgroup, program, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI, 0))


def device_programs(cgroup: int) -> list[int]:
    """Ids of those attached to that very cgroup."""
    ids = (ctypes.c_uint32 * 64)()
    attributes = struct.pack("=IIIIQII", cgroup, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), len(ids), 0)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    syscalls.call("bpf", _SYS_BPF, _PROG_QUERY, ctypes.byref(buffer), ctypes.c_uint(len(attributes)))
    return list(ids[: struct.unpack_from("=I", buffer.raw, 24)[0]])
