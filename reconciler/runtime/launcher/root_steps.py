"""Steps that build a container's own root file system: part of the vocabulary of `steps`.

    (overlay) ▸ root ▸ (directories) ▸ fresh proc, sysfs, cgroups, /dev … ▸ nodes ▸ protect ▸ mask ▸ pivot ▸ streams

Invariant: between `root` and `pivot` every path of the container is resolved inside its root, by `rootpaths`,
and mounted on by descriptor, so that a hostile tree can neither have anything made or mounted outside of itself
nor swap what is mounted. Which steps, and in which order, is the planner's (isolators/filesystem_rootfs.py).
Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.runtime.kernel import mounts, rootpaths, syscalls

Step = Mapping[str, Any]
Descriptors = dict[str, int]

ROOT = "root"  # the descriptor by which the steps here know the root

DEVICES: Mapping[str, tuple[int, int]] = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_NODE_MODE = 0o666


def _overlay(step: Step, fds: Descriptors) -> None:
    fds[step["as"]] = overlay(step)


def overlay(step: Step, userns: int | None = None) -> int:
    """Layers, the topmost first, under a directory of the container's own, if it has one: mounted here, and nowhere on
    the host. userns: of whom it is for, if that is not ours; files of the layers keep their owners in it, and what is
    written has on the disk the host's ids for them."""
    lowers, upper = step["lowers"], step["upper"]
    flags = mounts.attributes(step.get("flags", ()))
    if userns is None:
        return mounts.overlay(lowers, upper, step["work"], flags)
    with mounts.id_mapped(os.path.commonpath(lowers), userns):
        if upper:
            found = os.stat(lowers[0])
            os.chown(upper, found.st_uid, found.st_gid)
        return mounts.overlay(lowers, upper, step["work"], flags)


def _root(step: Step, fds: Descriptors) -> None:
    """The tree taken before becomes a mount: private, so that what is mounted in it later stays unseen. It lies over
    the root, where no path leads into it: until `pivot` all paths are the host's."""
    tree = fds[ROOT]
    mounts.change(tree, propagation=syscalls.MS_PRIVATE, recursive=True)
    slash = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mounts.attach(tree, slash)
    finally:
        os.close(slash)


def _directories(step: Step, fds: Descriptors) -> None:
    """All that has to be made in the tree itself, before it may become read-only."""
    for target in step["ordinary"]:
        os.close(rootpaths.directory(fds[ROOT], target, links=False))
    for target in step.get("targets", ()):
        os.close(rootpaths.directory(fds[ROOT], target))


def _fresh(step: Step, fds: Descriptors) -> None:
    """A new file system of the kernel's, on an ordinary directory."""
    with _ordinary(fds[ROOT], step["target"]) as target:
        flags = mounts.attributes(step.get("flags", ()))
        tree = mounts.fresh(step["type"], step.get("source", step["type"]), step.get("options", {}), flags)
        try:
            mounts.attach(tree, target)
        finally:
            os.close(tree)


def _nodes(step: Step, fds: Descriptors) -> None:
    """Devices and links in a fresh file system. The devices alone are mounts that let devices work: one that is made
    later does not."""
    with _ordinary(fds[ROOT], step["target"]) as directory:
        for name in step["devices"]:
            _node(directory, name)
        for name, target in step["links"].items():
            os.symlink(target, name, dir_fd=directory)


def _node(directory: int, name: str) -> None:
    host = -1
    try:
        _make_node(directory, name)
    except PermissionError:
        # in a user namespace, or where no device may be made: the host's own serves
        host = os.open(f"/dev/{name}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory))
    at = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        source = host if host >= 0 else at
        _verify_device(source, name)
        tree = mounts.copy(source)
        try:
            mounts.change(tree, take=mounts.MOUNT_ATTR_NODEV)
            mounts.attach(tree, at)
        finally:
            os.close(tree)
    finally:
        os.close(at)
        if host >= 0:
            os.close(host)


def _make_node(directory: int, name: str) -> None:
    before = os.umask(0)
    try:
        os.mknod(name, stat.S_IFCHR | _NODE_MODE, os.makedev(*DEVICES[name]), dir_fd=directory)
    finally:
        os.umask(before)


def _verify_device(fd: int, name: str) -> None:
    found = os.fstat(fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(*DEVICES[name]):
        raise OSError(errno.ENODEV, f"is not the device {name}", f"/dev/{name}")


def _protect(step: Step, fds: Descriptors) -> None:
    """What may be read but not written: each mounted read-only onto itself. What this kernel lacks is skipped."""
    for path in step["targets"]:
        with _existing(fds[ROOT], path) as target:
            if target is not None:
                tree = mounts.copy(target, recursive=True)
                try:
                    mounts.change(tree, give=mounts.MOUNT_ATTR_RDONLY, recursive=True)
                    mounts.attach(tree, target)
                finally:
                    os.close(tree)


def _mask(step: Step, fds: Descriptors) -> None:
    """What may not be seen: files become /dev/null, directories share one empty tmpfs. The lacking are skipped."""
    null = rootpaths.open_inside(fds[ROOT], step["null"], links=False)
    empty = -1
    try:
        _verify_device(null, "null")
        for path in step["targets"]:
            with _existing(fds[ROOT], path) as target:
                if target is None:
                    continue
                if not stat.S_ISDIR(os.fstat(target).st_mode):
                    _attach_copy(null, target)
                elif empty >= 0:
                    _attach_copy(empty, target)
                else:
                    empty = mounts.fresh("tmpfs", "masked", _EMPTY, mounts.attributes(_EMPTY_FLAGS))
                    mounts.attach(empty, target)
    finally:
        os.close(null)
        if empty >= 0:
            os.close(empty)


_EMPTY = {"mode": "555", "nr_blocks": "1", "nr_inodes": "2", "ro": None}
_EMPTY_FLAGS = ("ro", "nosuid", "nodev", "noexec")


def _attach_copy(source: int, target: int) -> None:
    tree = mounts.copy(source)
    try:
        mounts.attach(tree, target)
    finally:
        os.close(tree)


def _pivot(step: Step, fds: Descriptors) -> None:
    root = fds.pop(ROOT)
    try:
        mounts.pivot(root)
    finally:
        os.close(root)


def _streams(step: Step, fds: Descriptors) -> None:
    """A standard stream that is the host's /dev/null becomes the container's: its mode and owner are not to be changed
    from inside."""
    null = -1
    for number in range(3):
        found = os.fstat(number)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(*DEVICES["null"]):
            continue
        if null < 0:
            null = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            _verify_device(null, "null")
        os.dup2(null, number)
    if null >= 0:
        os.close(null)


@contextlib.contextmanager
def _ordinary(root: int, path: str) -> Iterator[int]:
    fd = rootpaths.directory(root, path, links=False)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _existing(root: int, path: str) -> Iterator[int | None]:
    """A file or directory of the kernel's; None for one that this kernel has not got, or will not show."""
    try:
        fd = rootpaths.open_inside(root, path, links=False)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


OPERATIONS: dict[str, Callable[[Step, Descriptors], None]] = {
    "overlay": _overlay,
    "root": _root,
    "directories": _directories,
    "fresh": _fresh,
    "nodes": _nodes,
    "protect": _protect,
    "mask": _mask,
    "pivot": _pivot,
    "streams": _streams,
}
