"""The vocabulary of a launch: small named steps that a child carries out in order before it execs.

A launch plan is data: a list of `{"op": name, ...}` that is checkpointed, printed by
`inspect --launch-plan` and ordered by a test; this module only interprets it, inside the new
process. Standard library only, and nothing here decides anything. Order constraints are the
planner's, with the reasons beside them there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.runtime.kernel import mounts, rlimits, rootpaths, syscalls, sysctls
from reconciler.runtime.launcher import credentials, root_steps, terminal, volume_steps

Step = Mapping[str, Any]
Descriptors = dict[str, int]

_MOUNT_FLAGS = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "bind": syscalls.MS_BIND,
    "rec": syscalls.MS_REC,
    "slave": syscalls.MS_SLAVE,
    "private": syscalls.MS_PRIVATE,
    "relatime": syscalls.MS_RELATIME,
}


def clone_flags(namespaces: list[str]) -> int:
    """Our namespace names → clone(2) flags."""
    flags = 0
    for name in namespaces:
        flags |= syscalls.NAMESPACES[name][0]
    return flags


def _mount_flags(names: list[str]) -> int:
    flags = 0
    for name in names:
        flags |= _MOUNT_FLAGS[name]
    return flags


def _enter(step: Step, fds: Descriptors) -> None:
    """Join namespaces of the process behind a pidfd, or the one that is the descriptor."""
    syscalls.setns(fds[step["of"]], clone_flags(step["namespaces"]))


def _unshare(step: Step, fds: Descriptors) -> None:
    syscalls.unshare(clone_flags(step["namespaces"]))


def _mount(step: Step, fds: Descriptors) -> None:
    flags = _mount_flags(step.get("flags", []))
    syscalls.mount(step.get("source", "none"), step["target"], step.get("type", ""), flags, step.get("data", ""))


def _detach(step: Step, fds: Descriptors) -> None:
    """Let go of a mount and all below it, if there is one."""
    try:
        syscalls.umount(step["target"], syscalls.MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def _readonly(step: Step, fds: Descriptors) -> None:
    """`in`: the target lies inside the tree of that descriptor."""
    recursive = bool(step.get("recursive"))
    if "in" not in step:
        syscalls.mount_readonly(step["target"], recursive=recursive)
        return
    fd = rootpaths.open_inside(fds[step["in"]], step["target"], links=False)
    try:
        mounts.change(fd, give=mounts.MOUNT_ATTR_RDONLY, recursive=recursive, name=step["target"])
    finally:
        os.close(fd)


def _take(step: Step, fds: Descriptors) -> None:
    """Keep a detached copy of a mount under a name, to `put` it somewhere later."""
    fds[step["as"]] = take(step, fds)


def take(step: Step, fds: Descriptors, userns: int | None = None) -> int:
    """`of`: as the process behind that pidfd sees it; only a mount of one's own mount namespace can be copied, so that
    one is entered meanwhile. userns: of whom it is for, if that is not ours."""
    if "of" not in step:
        return _copied(step, userns)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(fds[step["of"]], syscalls.CLONE_NEWNS)
        try:
            return _copied(step, userns)
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWNS)
    finally:
        os.close(own)


def _copied(step: Step, userns: int | None = None) -> int:
    """`beneath`: a path inside the source that others may write to, in which no link is followed. `resolved`: the
    source has no link in it, and may be a file. `recursive`: with what is mounted below it. `idmap`: its files keep
    their owners in a user namespace, if it is for one. Flags are only ever added."""
    resolved, recursive = bool(step.get("resolved")), bool(step.get("recursive"))
    with rootpaths.opened(step["source"], links=not resolved, anything=resolved) as source:
        found = rootpaths.existing(source, step["beneath"], links=False) if "beneath" in step else source
        try:
            tree = mounts.copy(found, recursive=recursive)
        finally:
            if found != source:
                os.close(found)
    mapping = userns if step.get("idmap") else None
    flags, propagation = mounts.attributes(step.get("flags", ())), _MOUNT_FLAGS.get(step.get("propagation", ""), 0)
    if mapping is not None or flags or propagation:
        name = step["source"]
        mounts.change(tree, give=flags, propagation=propagation, userns=mapping, recursive=recursive, name=name)
    return tree


def _put(step: Step, fds: Descriptors) -> None:
    """`in`: the target lies inside the tree of that descriptor, and is made if it is missing; `ordinary`: no link leads
    to it, and it may lie in /sys."""
    fd = fds.pop(step["what"])
    try:
        if "in" not in step:
            syscalls.move_mount(fd, step["target"])
            return
        root, path = fds[step["in"]], step["target"]
        ordinary = bool(step.get("ordinary"))
        target = rootpaths.directory(root, path, links=False) if ordinary else rootpaths.mount_point(root, path)
        try:
            mounts.attach(fd, target)
        finally:
            os.close(target)
    finally:
        os.close(fd)


def _mkdir(step: Step, fds: Descriptors) -> None:
    os.makedirs(step["target"], mode=step.get("mode", 0o755), exist_ok=True)


def _loopback(step: Step, fds: Descriptors) -> None:
    syscalls.loopback_up()


def _hostname(step: Step, fds: Descriptors) -> None:
    syscalls.sethostname(step["name"])


def _rlimits(step: Step, fds: Descriptors) -> None:
    for name, (soft, hard) in step["limits"].items():
        rlimits.limit(name, soft, hard)


def _sysctls(step: Step, fds: Descriptors) -> None:
    """/proc/sys shows each reader the parameters of its own namespaces."""
    for name, value in step["values"].items():
        path = sysctls.path(name)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise OSError(error.errno, f"{name} cannot be set to {value!r}: {error.strerror}", path) from error


def _workdir(step: Step, fds: Descriptors) -> None:
    rootpaths.enter(step["target"])


OPERATIONS: dict[str, Callable[[Step, Descriptors], None]] = {
    "enter": _enter,
    "unshare": _unshare,
    "mount": _mount,
    "detach": _detach,
    "readonly": _readonly,
    "take": _take,
    "put": _put,
    "mkdir": _mkdir,
    "loopback": _loopback,
    "hostname": _hostname,
    "rlimits": _rlimits,
    "sysctls": _sysctls,
    "terminal": terminal.perform,
    "workdir": _workdir,
    **root_steps.OPERATIONS,
    **volume_steps.OPERATIONS,
    **credentials.OPERATIONS,
}


def perform(step: Step, fds: Descriptors) -> None:
    """Raises OSError as the kernel gave it, KeyError for a step of no known kind."""
    OPERATIONS[step["op"]](step, fds)
