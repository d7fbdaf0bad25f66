"""One new process for the keeper: cloned into its namespaces, placed in its cgroups, blocked until released.

    no pid namespace to enter      keeper ─clone3(flags)──────────────────────────────▶ child
    pid: parent                    keeper ─setns(pid)─clone3(flags)─setns back────────▶ child
    pid: private below a parent    keeper ─setns(pid)─clone3─setns back─▶ intermediate
                                               └─clone3(flags|NEWPID|CLONE_PARENT)────▶ child of the keeper

The intermediate is needed because clone3(CLONE_NEWPID) straight after a setns into another pid
namespace is EINVAL (kernel/pid_namespace.c: copy_pid_ns wants the active and the children's to agree).
A child is limited before it runs a single instruction of its own where CLONE_INTO_CGROUP works; in v1 hierarchies it
places itself, before all else it does and before the request is answered.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from reconciler.runtime.kernel import proc, syscalls
from reconciler.runtime.launcher import child, pump_holding
from reconciler.runtime.launcher.steps import clone_flags
from reconciler.runtime.launcher.wards import Ward

_OWN_PID_NAMESPACE = "/proc/self/ns/pid"
_KEEPERS = ("reaped", "kill", "procs", "into")  # descriptors the child has no business with
_INTERMEDIATE_SECONDS = 5.0
_PLACED_SECONDS = 20.0

# the kernel or the hierarchy does not take CLONE_INTO_CGROUP; writing cgroup.procs may still work
_PLACE_INSTEAD = (errno.E2BIG, errno.EINVAL, errno.EBUSY, errno.EOPNOTSUPP, errno.EACCES)

Body = Callable[[], NoReturn]


def clone(message: dict[str, Any], fds: list[int], title: tuple[int, int]) -> Ward:
    """Carry out a "fork" request. Takes those of `fds` it keeps out of the list. Raises OSError."""
    roles: dict[str, int] = dict(zip(message["roles"], fds, strict=True))
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(error_read, False)
    placed_read, placed_write = os.pipe2(os.O_CLOEXEC)
    pump, lent = pump_holding.prepare(message["plan"].get("pump"), roles)
    mine = {name: fd for name, fd in roles.items() if name not in _KEEPERS} | lent

    def body() -> NoReturn:
        pipes = {"go": go_read, "error": error_write, "placed": placed_write}
        child.run(message["plan"], {**mine, **pipes}, title)

    pidfd = -1
    try:
        pid, pidfd = _clone_placed(message, roles, body)
        os.close(placed_write)
        placed_write = -1
        _await_placed(placed_read, error_read)
        stat = proc.read_stat(pid)
        if stat is None:
            raise ProcessLookupError(errno.ESRCH, "the new process was killed at once", message["name"])
    except BaseException:
        if pidfd >= 0:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        os.close(go_write)
        os.close(error_read)
        if pump is not None:
            pump.close()
        raise
    finally:
        for fd in (go_read, error_write, placed_read, placed_write, *lent.values()):
            if fd >= 0:
                os.close(fd)
    ward = Ward(message["name"], message["run"], pid, stat.start, pidfd)
    ward.go_fd, ward.error_fd = go_write, error_read
    ward.pump = pump
    ward.transient = bool(message.get("transient"))
    ward.keep = {name: roles[name] for name in ("reaped", "kill", "procs") if name in roles}
    for fd in ward.keep.values():
        fds.remove(fd)
    return ward


def _await_placed(placed: int, error: int) -> None:
    """Until the child says that it sits where it belongs. Raises OSError with its reason when it cannot."""
    poll = select.poll()
    poll.register(placed, select.POLLIN)
    if not poll.poll(_PLACED_SECONDS * 1000):
        raise TimeoutError(errno.ETIMEDOUT, f"the child was not placed within {_PLACED_SECONDS:.0f} s")
    if os.read(placed, 1):
        return
    with contextlib.suppress(BlockingIOError):
        if record := os.read(error, 65536):
            failure = json.loads(record)
            raise OSError(failure["errno"], f"{failure['stage']}: {failure['what']}", failure["path"])
    raise ProcessLookupError(errno.ESRCH, "the child was killed before it was placed")


def _clone_placed(message: dict[str, Any], roles: dict[str, int], body: Body) -> tuple[int, int]:
    into = roles.get("into", -1)
    if into < 0:
        return _clone_in_pid_namespace(message, roles, body, -1)
    try:
        return _clone_in_pid_namespace(message, roles, body, into)
    except OSError as error:
        if error.errno not in _PLACE_INSTEAD:
            raise
    pid, pidfd = _clone_in_pid_namespace(message, roles, body, -1)
    procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=into)
    try:
        os.write(procs, b"%d" % pid)
    finally:
        os.close(procs)
    return pid, pidfd


def _clone_in_pid_namespace(message: dict[str, Any], roles: dict[str, int], body: Body, into: int) -> tuple[int, int]:
    flags = clone_flags(message["clone"]) | syscalls.CLONE_CLEAR_SIGHAND
    if not message.get("enter_pid"):
        return _clone_and_run(flags, body, into)
    own = os.open(_OWN_PID_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def intermediate() -> NoReturn:
        _pass_on(theirs, flags, body, into)

    try:
        syscalls.setns(roles[message["enter_pid"]], syscalls.CLONE_NEWPID)
        try:
            if flags & syscalls.CLONE_NEWPID:
                between, between_fd = _clone_and_run(syscalls.CLONE_CLEAR_SIGHAND, intermediate, -1)
            else:
                return _clone_and_run(flags, body, into)
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWPID)
        theirs.close()
        try:
            pidfd = _take_over(ours)
        finally:
            signal.pidfd_send_signal(between_fd, signal.SIGKILL)
            os.close(between_fd)
            os.waitpid(between, 0)
        return proc.pid_of(pidfd), pidfd
    finally:
        ours.close()
        theirs.close()
        os.close(own)


def _clone_and_run(flags: int, body: Body, into: int) -> tuple[int, int]:
    pid, pidfd = syscalls.clone3(flags, exit_signal=signal.SIGCHLD, cgroup_fd=into)
    if pid == 0:
        try:
            body()
        finally:
            os._exit(child.NOT_EXECUTABLE)
    return pid, pidfd


def _pass_on(theirs: socket.socket, flags: int, body: Body, into: int) -> NoReturn:
    """The intermediate: make the keeper's child, hand its pidfd over, and end."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # it is visible inside the parent's pid namespace
    try:
        # no exit signal of its own: with CLONE_PARENT the child inherits ours (clone(2))
        pid, pidfd = syscalls.clone3(flags | syscalls.CLONE_PARENT, exit_signal=0, cgroup_fd=into)
    except OSError as error:
        theirs.send(b"%d" % (error.errno or 0))
        os._exit(1)
    if pid == 0:
        body()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))]
    theirs.sendmsg([b"0"], rights)
    signal.pause()  # until the keeper has it and kills us: a pidfd in flight needs no sender, a zombie needs no race
    os._exit(0)


def _take_over(ours: socket.socket) -> int:
    ours.settimeout(_INTERMEDIATE_SECONDS)
    body, ancillary, _, _ = ours.recvmsg(16, socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
    if body == b"0" and ancillary:
        return array.array("i", ancillary[0][2])[0]
    number = int(body or b"0") or errno.ESRCH
    raise OSError(number, f"clone3 in the parent's pid namespace: {os.strerror(number)}")
