"""System calls that Python 3.11 does not offer, each a wrapper of a few lines.

Names and numbers are the kernel's (include/uapi/linux/{sched,mount,prctl}.h). Numbers from 424 up are
the same on every architecture but alpha. Every failure is an OSError that names the call and its object.
`PyDLL` keeps the GIL during the call: a clone3 that lets go of it leaves the child waiting for a lock
that no thread of its own will release.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWTIME = 0x00000080
CLONE_VM = 0x00000100
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_CLEAR_SIGHAND = 0x100000000
CLONE_INTO_CGROUP = 0x200000000

# the name of each namespace in our specs → (clone flag, file in /proc/PID/ns)
NAMESPACES: dict[str, tuple[int, str]] = {
    "user": (CLONE_NEWUSER, "user"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "network": (CLONE_NEWNET, "net"),
    "pid": (CLONE_NEWPID, "pid"),
    "mount": (CLONE_NEWNS, "mnt"),
}

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21

MNT_DETACH = 2

OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x00000004
MOUNT_ATTR_RDONLY = 0x00000001
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_RECURSIVE = 0x8000
AT_EMPTY_PATH = 0x1000

PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

CLOSE_RANGE_CLOEXEC = 1 << 2

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_COLLAPSE_RANGE = 0x08

_SYS_RT_SIGACTION = 13 if os.uname().machine == "x86_64" else 134
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_CLONE3 = 435
_SYS_CLOSE_RANGE = 436
_SYS_MOUNT_SETATTR = 442

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

_PIDFD_GET_INFO = 0xC048FF0B  # _IOWR(0xFF, 11, 72 bytes)
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO_SIZE = 72
_PIDFD_INFO_EXIT_CODE_AT = 60

_libc = ctypes.PyDLL(None, use_errno=True)
_unlocked = ctypes.CDLL(None, use_errno=True)  # for what takes long, in one thread of several
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_unlocked.unshare.argtypes = [ctypes.c_int]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.sethostname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


class _CloneArgs(ctypes.Structure):
    """struct clone_args, include/uapi/linux/sched.h (CLONE_ARGS_SIZE_VER2, 88 bytes)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


class _MountAttr(ctypes.Structure):
    """struct mount_attr, include/uapi/linux/mount.h."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


def _check(result: int, call: str, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", path)
    return result


def call(name: str, number: int, *args: object, path: str | None = None) -> int:
    """The system call of that number, for those with a module of their own. Integers are C ints unless wrapped."""
    return _check(_libc.syscall(number, *args), name, path)


def clone3(flags: int, *, exit_signal: int, cgroup_fd: int = -1) -> tuple[int, int]:
    """clone3(2) without a stack of its own, as fork does. Returns (pid, pidfd) in the caller and
    (0, -1) in the child. Only for single-threaded processes. `cgroup_fd` implies CLONE_INTO_CGROUP."""
    pidfd = ctypes.c_int(-1)
    args = _CloneArgs(flags=flags | CLONE_PIDFD, pidfd=ctypes.addressof(pidfd), exit_signal=exit_signal)
    if cgroup_fd >= 0:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup_fd
    pid = _check(_libc.syscall(_SYS_CLONE3, ctypes.byref(args), ctypes.sizeof(args)), "clone3")
    return (pid, pidfd.value) if pid else (0, -1)


def setns(fd: int, flags: int) -> None:
    """setns(2); `fd` a namespace file or a pidfd (then `flags` may name several, Linux 5.8)."""
    _check(_libc.setns(fd, flags), "setns")


def unshare(flags: int) -> None:
    _check(_unlocked.unshare(flags), "unshare")


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    result = _libc.mount(os.fsencode(source), os.fsencode(target), os.fsencode(fstype), flags, os.fsencode(data))
    _check(result, f"mount {fstype or source}", target)


def umount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    _check(_libc.pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", new_root)


def fstatfs(fd: int, buffer: ctypes.Array[ctypes.c_long]) -> None:
    """Fills in a struct statfs (at least 120 bytes)."""
    _check(_libc.fstatfs(fd, buffer), "fstatfs")


def open_tree(path: str, flags: int) -> int:
    """A detached copy (OPEN_TREE_CLONE) of the mount at `path`, as a descriptor."""
    result = _libc.syscall(_SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags | os.O_CLOEXEC))
    return _check(result, "open_tree", path)


def open_tree_of(fd: int) -> int:
    """A detached mount of what `fd` refers to, a pidfd among others (Linux 6.14)."""
    flags = ctypes.c_uint(OPEN_TREE_CLONE | AT_EMPTY_PATH | os.O_CLOEXEC)
    return _check(_libc.syscall(_SYS_OPEN_TREE, fd, b"", flags), "open_tree")


def move_mount(fd: int, target: str) -> None:
    """Attach the detached mount `fd` at `target`."""
    result = _libc.syscall(_SYS_MOVE_MOUNT, fd, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
    _check(result, "move_mount", target)


def mount_readonly(path: str, *, recursive: bool) -> None:
    """Make the mount at `path` (and those below it) read-only, keeping every other flag (Linux 5.12)."""
    attr = _MountAttr(attr_set=MOUNT_ATTR_RDONLY)
    flags = ctypes.c_uint(AT_RECURSIVE if recursive else 0)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), flags, ctypes.byref(attr), ctypes.sizeof(attr)
    )
    _check(result, "mount_setattr", path)


def sethostname(name: str) -> None:
    raw = name.encode()
    _check(_libc.sethostname(raw, len(raw)), "sethostname", name)


def prctl(option: int, value: int, third: int = 0) -> int:
    result: int = _libc.prctl(option, value, third, 0, 0)
    return result if result >= 0 else _check(result, f"prctl {option}")


def death_signal() -> int:
    """What the kernel sends us when our parent ends; 0 for nothing."""
    found = ctypes.c_int()
    _check(_libc.prctl(PR_GET_PDEATHSIG, ctypes.addressof(found), 0, 0, 0), "prctl PR_GET_PDEATHSIG")
    return found.value


def set_process_name(name: str) -> None:
    """The 15 characters that `ps -o comm` shows."""
    raw = ctypes.create_string_buffer(name.encode()[:15])
    _check(_libc.prctl(PR_SET_NAME, ctypes.addressof(raw), 0, 0, 0), "prctl PR_SET_NAME")


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor that is not in `keep`."""
    start = 0
    for fd in [*sorted(keep), None]:
        end = 0xFFFFFFFF if fd is None else fd - 1
        if end >= start:
            _check(_libc.syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(start), ctypes.c_uint(end), 0), "close_range")
        if fd is not None:
            start = fd + 1


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` up close-on-exec (Linux 5.11)."""
    flags = ctypes.c_uint(CLOSE_RANGE_CLOEXEC)
    _check(_libc.syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF), flags), "close_range")


def syncfs(fd: int) -> None:
    """Have all of the file system that `fd` lies in written to its disk (syncfs(2))."""
    _check(_libc.syncfs(fd), "syncfs")


def drop_file_head(fd: int, size: int, *, keep_size: bool = False) -> None:
    """Remove the first `size` bytes of a file that others append to (fallocate(2)): taken out, so that offsets move
    (a multiple of the block size; ext4 and xfs), or, with `keep_size`, turned into a hole (tmpfs too)."""
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE if keep_size else FALLOC_FL_COLLAPSE_RANGE
    _check(_libc.fallocate(fd, mode, 0, size), "fallocate")


def default_disposition(number: int) -> None:
    """SIG_DFL for a signal that the C library keeps for itself (32 and 33) and refuses to touch; whoever started us
    may have had it ignored, which an exec hands on."""
    action = ctypes.create_string_buffer(32)  # struct kernel_sigaction: handler, flags, restorer, mask, all zero
    result = _libc.syscall(_SYS_RT_SIGACTION, number, action, None, ctypes.c_size_t(8))
    _check(result, f"rt_sigaction {number}")


def loopback_up() -> None:
    """Set `lo` of the caller's network namespace up (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def exit_status_of(pidfd: int) -> int | None:
    """The raw wait status of a process that was reaped by somebody else (PIDFD_GET_INFO, Linux 6.15);
    None where the kernel cannot say or the process has not been reaped yet."""
    request = bytearray(_PIDFD_INFO_SIZE)
    struct.pack_into("=Q", request, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, request)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ESRCH):
            return None
        raise
    if not struct.unpack_from("=Q", request, 0)[0] & _PIDFD_INFO_EXIT:
        return None
    status: int = struct.unpack_from("=i", request, _PIDFD_INFO_EXIT_CODE_AT)[0]
    return status


def set_title(start: int, size: int, title: str) -> None:
    """Overwrite this process's argv area (see `proc.argument_area`), which /proc/PID/cmdline shows."""
    raw = title.encode()[: size - 1]
    ctypes.memmove(start, raw + bytes(size - len(raw)), size)


if sys.maxsize < 2**32:
    raise ImportError("reconciler needs a 64-bit kernel and interpreter: its system call layouts are 64-bit")
