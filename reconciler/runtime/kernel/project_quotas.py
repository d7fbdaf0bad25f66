"""Project quotas of XFS: a number that files carry and directories pass on, and how much all with one number may take.

ioctl_xfs_fsgetxattr(2) and quotactl_fd(2) (Linux 5.14), which take a descriptor, so that no path of a container's is
resolved again; structures of include/uapi/linux/fs.h and dqblk_xfs.h. Sizes are bytes; the kernel counts blocks.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass

from reconciler.runtime.kernel import mounts, syscalls

XFS_SUPER_MAGIC = 0x58465342

_SYS_QUOTACTL_FD = 443
_PROJECTS = 2  # PRJQUOTA
_GET, _SET_LIMITS, _STATUS = (ord("X") << 8 | number for number in (3, 4, 5))
_ENFORCED = 1 << 5  # FS_QUOTA_PDQ_ENFD
_FS_DISK_QUOTA = struct.Struct("=bbHI6Q72x")
_VERSION, _PROJECT_QUOTA, _BLOCK_LIMITS = 1, 1 << 1, 1 << 2 | 1 << 3
_BLOCK = 512
_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
_FSXATTR = struct.Struct("=5I8x")
_INHERIT = 0x200  # FS_XFLAG_PROJINHERIT


@dataclass(frozen=True, slots=True)
class Quota:
    """limit: None for none; files: inodes of all kinds."""

    limit: int | None
    used: int
    files: int


def unavailable(path: str) -> str:
    """Why there are no project quotas in the file system of that directory; "" when they are enforced."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if mounts.kind(fd) != XFS_SUPER_MAGIC:
            return f"{path} is on no XFS"
        buffer = ctypes.create_string_buffer(256)
        try:
            _quotactl(fd, _STATUS, 0, buffer)
        except OSError as error:
            return f"the XFS of {path} has no quotas (mount it with the option prjquota): {error.strerror}"
        if not struct.unpack_from("=H", buffer, 2)[0] & _ENFORCED:
            return f"the XFS of {path} is not mounted with the option prjquota"
        return ""
    finally:
        os.close(fd)


def quota(fd: int, project: int) -> Quota:
    """Of the file system that `fd` lies in. Raises OSError."""
    buffer = ctypes.create_string_buffer(_FS_DISK_QUOTA.size)
    try:
        _quotactl(fd, _GET, project, buffer)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return Quota(None, 0, 0)
        raise
    _, _, _, _, hard, _, _, _, blocks, files = _FS_DISK_QUOTA.unpack(buffer.raw)
    return Quota(hard * _BLOCK or None, blocks * _BLOCK, files)


def limit(fd: int, project: int, size: int | None) -> None:
    """None: no limit. One below what is used stops further writing (ENOSPC) and takes nothing away."""
    blocks = 0 if size is None else max(1, size // _BLOCK)
    record = _FS_DISK_QUOTA.pack(_VERSION, _PROJECT_QUOTA, _BLOCK_LIMITS, project, blocks, blocks, 0, 0, 0, 0)
    _quotactl(fd, _SET_LIMITS, project, ctypes.create_string_buffer(record, len(record)))


def _quotactl(fd: int, command: int, project: int, buffer: ctypes.Array[ctypes.c_char]) -> None:
    what = ctypes.c_uint(command << 8 | _PROJECTS)
    syscalls.call("quotactl_fd", _SYS_QUOTACTL_FD, fd, what, ctypes.c_uint(project), buffer)


def project(fd: int) -> int:
    """Of a file or directory; 0 is that of everything else, on other file systems too."""
    if mounts.kind(fd) != XFS_SUPER_MAGIC:
        return 0
    return int(_FSXATTR.unpack(_attributes(fd))[3])


def _attributes(fd: int) -> bytes:
    return fcntl.ioctl(fd, _FSGETXATTR, bytes(_FSXATTR.size))


def assign(fd: int, number: int) -> None:
    """To an open file or directory; what is made in a directory from then on has it too."""
    flags, extent, extents, _, copied = _FSXATTR.unpack(_attributes(fd))
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        flags |= _INHERIT
    fcntl.ioctl(fd, _FSSETXATTR, _FSXATTR.pack(flags, extent, extents, number, copied))


def assign_all(fd: int, before: int, number: int) -> None:
    """To the directory, and to what is in it and has the number `before`: another number is another's. Links, sockets
    and the like keep theirs, and take no blocks worth counting."""
    assign(fd, number)
    stack = [os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)]
    try:
        while stack:
            at = stack.pop()
            try:
                for name in os.listdir(at):
                    _assign_entry(at, name, before, number, stack)
            finally:
                os.close(at)
    finally:
        for each in stack:
            os.close(each)


def _assign_entry(at: int, name: str, before: int, number: int, stack: list[int]) -> None:
    try:
        mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=at)
    except FileNotFoundError:
        return  # gone meanwhile
    if project(fd) != before:
        os.close(fd)
        return
    assign(fd, number)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        stack.append(fd)
    else:
        os.close(fd)
