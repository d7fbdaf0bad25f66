"""Mounts by descriptor: file systems and copies of trees that exist before they are attached anywhere.

Invariant: a mount made here is never named by a path that somebody else could swap: its target is a descriptor
that `rootpaths` resolved, and its flags are in force before anyone can see it. Follows fsopen(2), fsmount(2),
open_tree(2), move_mount(2) and mount_setattr(2); all are there since Linux 5.12. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from reconciler.runtime.kernel import syscalls

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_IDMAP = 0x00100000

ATTRIBUTES: Mapping[str, int] = {
    "ro": MOUNT_ATTR_RDONLY,
    "nosuid": MOUNT_ATTR_NOSUID,
    "nodev": MOUNT_ATTR_NODEV,
    "noexec": MOUNT_ATTR_NOEXEC,
}

PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572

_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT = 428, 429
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_SYS_MOUNT_SETATTR = 442
_NOT_MAPPED = (
    "its files cannot keep their owners in a user namespace: its file system (or one mounted below it) cannot be "
    "id-mapped; ext4, xfs, btrfs and others can, tmpfs since Linux 6.3"
)
_MESSAGE_BYTES = 4096
_STATFS_BYTES = 128


class _MountAttr(ctypes.Structure):
    """struct mount_attr, include/uapi/linux/mount.h."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


def attributes(names: Iterable[str]) -> int:
    flags = 0
    for name in names:
        flags |= ATTRIBUTES[name]
    return flags


def fresh(fstype: str, source: str, options: Mapping[str, str | None], flags: int) -> int:
    """A new, detached mount of a new file system. options: None for one without a value."""
    context = syscalls.call("fsopen", _SYS_FSOPEN, fstype.encode(), _FSOPEN_CLOEXEC, path=fstype)
    try:
        _configure(context, fstype, _FSCONFIG_SET_STRING, "source", source)
        for key, value in options.items():
            _configure(context, fstype, _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING, key, value)
        _configure(context, fstype, _FSCONFIG_CMD_CREATE, None, None)
        return syscalls.call("fsmount", _SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, ctypes.c_uint(flags), path=fstype)
    finally:
        os.close(context)


def overlay(lowers: Sequence[str], upper: str, work: str, flags: int) -> int:
    """A new, detached overlay (overlayfs.rst) of directories, the topmost lower one first. Named by descriptor,
    so that nobody who sees the mount is told where they are, and because a text may have 255 characters at the most,
    which kernels before 6.5 want all lower directories in. Without an upper one (""), which makes it read-only, there
    must be two lower ones."""
    with contextlib.ExitStack() as opened:

        def named(path: str) -> str:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        below, own = list(map(named, lowers)), {"upperdir": named(upper), "workdir": named(work)} if upper else {}
        try:
            return _overlay([("lowerdir+", each) for each in below], own, flags)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        return _overlay([("lowerdir", ":".join(below))], own, flags)


@contextlib.contextmanager
def id_mapped(path: str, userns: int) -> Iterator[None]:
    """Meanwhile the directory covers itself, with the owners that its files have in that user namespace. For layers: an
    overlay cannot be id-mapped itself, takes layers that are since Linux 5.19, and none that is attached nowhere before
    6.15. It has its own copies of their mounts. Only in a mount namespace of the caller's own."""
    place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tree = copy(place)
        try:
            change(tree, userns=userns, name=path)
            attach(tree, place)
        finally:
            os.close(tree)
    finally:
        os.close(place)
    try:
        yield
    finally:
        syscalls.umount(path, syscalls.MNT_DETACH)


def _overlay(below: Sequence[tuple[str, str]], own: Mapping[str, str], flags: int) -> int:
    context = syscalls.call("fsopen", _SYS_FSOPEN, b"overlay", _FSOPEN_CLOEXEC, path="overlay")
    try:
        for key, value in (("source", "overlay"), *below, *own.items()):
            _configure(context, "overlay", _FSCONFIG_SET_STRING, key, value)
        _configure(context, "overlay", _FSCONFIG_CMD_CREATE, None, None)
        return syscalls.call("fsmount", _SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, ctypes.c_uint(flags), path="overlay")
    finally:
        os.close(context)


def _configure(context: int, fstype: str, command: int, key: str | None, value: str | None) -> None:
    raw_key, raw_value = (None if text is None else os.fsencode(text) for text in (key, value))
    try:
        syscalls.call("fsconfig", _SYS_FSCONFIG, context, command, raw_key, raw_value, 0, path=fstype)
    except OSError as error:
        said = _said(context) or error.strerror
        raise OSError(error.errno, f"{said}{f' ({key})' if key else ''}", fstype) from error


def _said(context: int) -> str:
    """The kernel's own explanation, when it has left one."""
    with contextlib.suppress(OSError):
        return os.read(context, _MESSAGE_BYTES).decode(errors="replace").strip()[2:]
    return ""


def copy(fd: int, *, recursive: bool = False, name: str = "") -> int:
    """A detached copy of the mount tree at what `fd` refers to (or at `name` in that directory, links not followed)."""
    flags = syscalls.OPEN_TREE_CLONE | os.O_CLOEXEC | syscalls.AT_SYMLINK_NOFOLLOW
    flags |= 0 if name else syscalls.AT_EMPTY_PATH
    flags |= syscalls.AT_RECURSIVE if recursive else 0
    return syscalls.call("open_tree", _SYS_OPEN_TREE, fd, name.encode(), ctypes.c_uint(flags), path=name or None)


def attach(tree: int, target: int) -> None:
    """Mount a detached tree on what `target` refers to. `tree` then refers to the attached mount."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    syscalls.call("move_mount", _SYS_MOVE_MOUNT, tree, b"", target, b"", ctypes.c_uint(flags))


def change(
    fd: int,
    *,
    give: int = 0,
    take: int = 0,
    propagation: int = 0,
    userns: int | None = None,
    recursive: bool = False,
    name: str | None = None,
) -> None:
    """Set and clear attributes of the mount that `fd` is the root of; all others stay. userns: a user namespace's file,
    whose ids the detached mount shall have: what is 0 on disk is 0 there (Linux 5.12), if its file system can."""
    attr = _MountAttr(attr_set=give, attr_clr=take, propagation=propagation)
    if userns is not None:
        attr.attr_set |= MOUNT_ATTR_IDMAP
        attr.userns_fd = userns
    flags = ctypes.c_uint(syscalls.AT_EMPTY_PATH | (syscalls.AT_RECURSIVE if recursive else 0))
    size = ctypes.c_size_t(ctypes.sizeof(attr))
    try:
        syscalls.call("mount_setattr", _SYS_MOUNT_SETATTR, fd, b"", flags, ctypes.byref(attr), size, path=name)
    except OSError as error:
        if userns is None or error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        raise OSError(error.errno, _NOT_MAPPED, name) from error


def kind(fd: int) -> int:
    """The magic number of the file system that `fd` lies in (statfs(2))."""
    buffer = (ctypes.c_long * (_STATFS_BYTES // ctypes.sizeof(ctypes.c_long)))()
    syscalls.fstatfs(fd, buffer)
    return int(buffer[0])


def pivot(root: int) -> None:
    """Make the mount `root` the root of this mount namespace and let go of the old one (pivot_root(2), NOTES)."""
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(root)
        # both names at once: the old root lands on top of the new one, no directory for it is needed inside
        syscalls.pivot_root(".", ".")
        os.fchdir(old)
        # what is unmounted here must not be unmounted on the host
        syscalls.mount("none", ".", "", syscalls.MS_SLAVE | syscalls.MS_REC)
        syscalls.umount(".", syscalls.MNT_DETACH)
    finally:
        os.close(old)
    os.chdir("/")
