"""Steps that mount volumes: part of the vocabulary of `steps`.

    take │ tmpfs │ secret │ device ▸ … ▸ (points) ▸ volume │ cover

What is mounted is a detached mount under a name (`as`) until `volume` attaches it, so what has to be done to the mount
itself, `take` and its kin do. Every target is resolved by `rootpaths`: inside the root, or inside the sandbox, where no
link is followed because its container can plant them. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.runtime.kernel import mounts, rootpaths, syscalls
from reconciler.runtime.launcher.root_steps import ROOT

Step = Mapping[str, Any]
Descriptors = dict[str, int]

_CONTENT = "content"
# a directory of every host, for a moment: part of a mount that is attached nowhere can be copied since Linux 6.15 only
_COVERED = "/proc"
_UNWRITABLE = ("nosuid", "nodev", "noexec")
_NO_PROGRAMS = ("nosuid", "noexec")


def _tmpfs(step: Step, fds: Descriptors) -> None:
    fds[step["as"]] = mounts.fresh("tmpfs", "tmpfs", step["options"], mounts.attributes(step["flags"]))


def _secret(step: Step, fds: Descriptors) -> None:
    """A read-only file in memory that is never swapped (ramfs), with what the descriptor `from` holds; the kernel moves
    it there, so that no process of ours has it in its own memory."""
    with _covering("ramfs", "secret", _UNWRITABLE) as tree:
        _fill(tree, fds.pop(step["from"]), step)
        mounts.change(tree, give=mounts.MOUNT_ATTR_RDONLY)
        fds[step["as"]] = mounts.copy(tree, name=_CONTENT)


def _device(step: Step, fds: Descriptors) -> None:
    """A node alone in memory, so that nothing done to it reaches the host's; where none may be made, the host's."""
    number = os.makedev(step["major"], step["minor"])
    with _covering("tmpfs", "device", _NO_PROGRAMS) as tree:
        try:
            os.mknod(_CONTENT, step["mode"], number, dir_fd=tree)
            os.chown(_CONTENT, step["uid"], step["gid"], dir_fd=tree)
            os.chmod(_CONTENT, stat.S_IMODE(step["mode"]), dir_fd=tree)  # whatever the umask was
            fds[step["as"]] = mounts.copy(tree, name=_CONTENT)
            return
        except PermissionError:
            pass
    with rootpaths.opened(step["path"], links=False, anything=True) as host:
        if os.fstat(host).st_rdev != number:
            raise OSError(errno.ENODEV, "is another device than it was", step["path"])
        fds[step["as"]] = mounts.copy(host)


@contextlib.contextmanager
def _covering(fstype: str, source: str, flags: Sequence[str]) -> Iterator[int]:
    """A fresh file system, attached while something in it is made and copied."""
    tree = mounts.fresh(fstype, source, {"mode": "700"}, mounts.attributes(flags))
    try:
        syscalls.move_mount(tree, _COVERED)
        try:
            yield tree
        finally:
            syscalls.umount(_COVERED, syscalls.MNT_DETACH)
    finally:
        os.close(tree)


def _fill(tree: int, content: int, step: Step) -> None:
    try:
        file = os.open(_CONTENT, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400, dir_fd=tree)
        try:
            at, size = 0, os.fstat(content).st_size
            while at < size:
                at += os.sendfile(file, content, at, size - at)
            if "uid" in step:
                os.fchown(file, step["uid"], step["gid"])
        finally:
            os.close(file)
    finally:
        os.close(content)


def _points(step: Step, fds: Descriptors) -> None:
    """What volumes will be mounted on, made while the root can still be written to."""
    for target in step["files"]:
        os.close(rootpaths.mount_point(fds[ROOT], target, rootpaths.file))
    for target in step["directories"]:
        os.close(rootpaths.mount_point(fds[ROOT], target))
    for target in step["covered"]:
        if (found := _covered(fds[ROOT], target, make=True)) is not None:
            os.close(found)


def _volume(step: Step, fds: Descriptors) -> None:
    """`in`: inside the tree of that descriptor, else inside the root as it is. `sandbox`: the target lies in that
    directory. What is missing is made, except on the host's own file system."""
    tree = fds.pop(step["what"])
    try:
        directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        with _base(step, fds) as (base, ours):
            make = (rootpaths.directory if directory else rootpaths.file) if ours else rootpaths.existing
            target = rootpaths.mount_point(base, step["target"], make, links="sandbox" not in step)
        try:
            if stat.S_ISDIR(os.fstat(target).st_mode) != directory:
                what = "a directory cannot be mounted on a file" if directory else "a file cannot be on a directory"
                raise OSError(errno.ENOTDIR, what, step["target"])
            mounts.attach(tree, target)
        finally:
            os.close(target)
    finally:
        os.close(tree)


def _cover(step: Step, fds: Descriptors) -> None:
    """A file in place of what has its name, be that a link to anywhere. `in`: as for `volume`; there a missing name is
    made. Where there is none, and none can be made, nothing is covered."""
    tree = fds.pop(step["what"])
    try:
        with _base(step, fds) as (base, ours):
            target = _covered(base, step["target"], make=ours)
        if target is not None:
            try:
                mounts.attach(tree, target)
            finally:
                os.close(target)
    finally:
        os.close(tree)


def _covered(base: int, path: str, *, make: bool) -> int | None:
    try:
        return rootpaths.entry(base, path, make=make)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    return _covered(base, path, make=False)


@contextlib.contextmanager
def _base(step: Step, fds: Descriptors) -> Iterator[tuple[int, bool]]:
    """Where the target begins, and whether what is missing there may be made."""
    with contextlib.ExitStack() as stack:
        root = fds[step["in"]] if "in" in step else stack.enter_context(rootpaths.opened("/"))
        if "sandbox" not in step:
            yield root, "in" in step
            return
        sandbox = rootpaths.directory(root, step["sandbox"])
        stack.callback(os.close, sandbox)
        yield sandbox, True


OPERATIONS: dict[str, Callable[[Step, Descriptors], None]] = {
    "tmpfs": _tmpfs,
    "secret": _secret,
    "device": _device,
    "points": _points,
    "volume": _volume,
    "cover": _cover,
}
