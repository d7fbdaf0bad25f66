"""One new process for the keeper: cloned into its namespaces, placed in its cgroups, blocked until released.

    no pid namespace to enter      keeper ─clone3(flags)──────────────────────────────▶ child
    pid: parent                    keeper ─setns(pid)─clone3(flags)─setns back────────▶ child
    pid: private below a parent    keeper ─setns(pid)─clone3─setns back─▶ intermediate
                                               └─clone3(flags|NEWPID|CLONE_PARENT)────▶ child of the keeper
    user: private                  keeper ─clone3─▶ intermediate ─unshare(mount), detach the pins
                                               └─clone3(flags|NEWUSER|CLONE_PARENT)───▶ child ◀─maps─ keeper
    user: parent, a mapped one     the same, with setns(user) before the clone3
                                   keeper ─fork─▶ host side of these two (hostside.py)

The intermediate is needed because clone3(CLONE_NEWPID) straight after a setns into another pid
namespace is EINVAL (kernel/pid_namespace.c: copy_pid_ns wants the active and the children's to agree), because the
keeper would not come back out of a user namespace, and because a mount that comes into a mount namespace from a more
privileged one cannot be unmounted there: what no container may hold has to go before.
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
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from reconciler.runtime.kernel import proc, syscalls, userns
from reconciler.runtime.launcher import child, hostside, pump_holding, static_init
from reconciler.runtime.launcher.steps import clone_flags, perform
from reconciler.runtime.launcher.wards import Ward

_OWN_PID_NAMESPACE = "/proc/self/ns/pid"
_KEEPERS = ("reaped", "kill", "procs", "into")  # descriptors the child has no business with
_INTERMEDIATE_SECONDS = 5.0
_PLACED_SECONDS = 20.0

# the kernel or the hierarchy does not take CLONE_INTO_CGROUP; writing cgroup.procs may still work
_PLACE_INSTEAD = (errno.E2BIG, errno.EINVAL, errno.EBUSY, errno.EOPNOTSUPP, errno.EACCES)

Body = Callable[[], NoReturn]


def clone(message: dict[str, Any], fds: list[int], title: tuple[int, int], init: int) -> Ward:
    """Carry out a "fork" request. Takes those of `fds` it keeps out of the list. init: the static init, -1 for none.
    Raises OSError."""
    roles: dict[str, int] = dict(zip(message["roles"], fds, strict=True))
    plan = message["plan"]
    user: dict[str, Any] = plan.get("user", {})
    opened = hostside.namespaces(user["enter"], roles[user["of"]]) if "of" in user else {}
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(error_read, False)
    placed_read, placed_write = os.pipe2(os.O_CLOEXEC)
    pump, lent = pump_holding.prepare(plan.get("pump"), roles)
    lent |= opened
    host_end = -1
    if plan.get("host_steps"):
        host_end, lent[hostside.ROLE] = hostside.pair()
    mine = {name: fd for name, fd in roles.items() if name not in _KEEPERS} | lent
    if plan["init"] and init >= 0:
        mine[static_init.ROLE] = init

    def body() -> NoReturn:
        pipes = {"go": go_read, "error": error_write, "placed": placed_write}
        child.run(plan, {**mine, **pipes}, title)

    pidfd = -1
    try:
        pid, pidfd = _clone_placed(message, roles, body)
        os.close(placed_write)
        placed_write = -1
        _await_placed(placed_read, error_read)
        stat = proc.read_stat(pid)
        if stat is None:
            raise ProcessLookupError(errno.ESRCH, "the new process was killed at once", message["name"])
        if "first" in user:
            userns.write_maps(pid, user["first"], user["size"])
        if host_end >= 0:
            named = {step["of"]: roles[step["of"]] for step in plan["host_steps"] if "of" in step}
            _fork_host_side(plan["host_steps"], pid, {**named, hostside.ROLE: host_end})
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
        for fd in (go_read, error_write, placed_read, placed_write, host_end, *lent.values()):
            if fd >= 0:
                os.close(fd)
    ward = Ward(message["name"], message["run"], pid, stat.start, pidfd)
    ward.go_fd, ward.error_fd = go_write, error_read
    ward.pump = pump
    ward.transient = bool(message.get("transient"))
    ward.has_init = bool(message["plan"]["init"])
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
    user: dict[str, Any] = message["plan"].get("user", {})
    enter = roles[message["enter_pid"]] if message.get("enter_pid") else -1
    if enter < 0 and not user:
        return _clone_and_run(flags, body, into)
    if not flags & syscalls.CLONE_NEWPID and not user:
        with _in_pid_namespace(enter):
            return _clone_and_run(flags, body, into)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def intermediate() -> NoReturn:
        _pass_on(theirs, flags, body, into, lambda: _prepare_user_namespace(user, roles))

    try:
        with _in_pid_namespace(enter):
            between, between_fd = _clone_and_run(syscalls.CLONE_CLEAR_SIGHAND, intermediate, -1)
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


@contextlib.contextmanager
def _in_pid_namespace(pidfd: int) -> Iterator[None]:
    """What is cloned meanwhile is born in that process's pid namespace; in ours for -1."""
    if pidfd < 0:
        yield
        return
    own = os.open(_OWN_PID_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(pidfd, syscalls.CLONE_NEWPID)
        try:
            yield
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWPID)
    finally:
        os.close(own)


def _prepare_user_namespace(user: dict[str, Any], roles: dict[str, int]) -> None:
    """In the intermediate, with the host's privileges until the last line."""
    if not user:
        return
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    perform({"op": "detach", "target": user["detach"]}, {})
    if "of" in user:
        syscalls.setns(roles[user["of"]], syscalls.CLONE_NEWUSER)


def _fork_host_side(steps: list[dict[str, Any]], pid: int, fds: dict[str, int]) -> None:
    def body() -> NoReturn:
        hostside.serve(steps, pid, fds)

    _, pidfd = _clone_and_run(syscalls.CLONE_CLEAR_SIGHAND, body, -1)
    os.close(pidfd)


def _clone_and_run(flags: int, body: Body, into: int) -> tuple[int, int]:
    pid, pidfd = syscalls.clone3(flags, exit_signal=signal.SIGCHLD, cgroup_fd=into)
    if pid == 0:
        try:
            body()
        finally:
            os._exit(child.NOT_EXECUTABLE)
    return pid, pidfd


def _pass_on(theirs: socket.socket, flags: int, body: Body, into: int, prepare: Callable[[], None]) -> NoReturn:
    """The intermediate: make the keeper's child, hand its pidfd over, and end."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # it is visible inside the parent's pid namespace
    try:
        prepare()
        # no exit signal of its own: with CLONE_PARENT the child inherits ours (clone(2))
        pid, pidfd = syscalls.clone3(flags | syscalls.CLONE_PARENT, exit_signal=0, cgroup_fd=into)
    except OSError as error:
        theirs.send(b"%d %s" % (error.errno or 0, str(error.strerror or error).encode()))
        os._exit(1)
    if pid == 0:
        body()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))]
    theirs.sendmsg([b"0"], rights)
    signal.pause()  # until the keeper has it and kills us: a pidfd in flight needs no sender, a zombie needs no race
    os._exit(0)


def _take_over(ours: socket.socket) -> int:
    ours.settimeout(_INTERMEDIATE_SECONDS)
    body, ancillary, _, _ = ours.recvmsg(1024, socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
    if body == b"0" and ancillary:
        return array.array("i", ancillary[0][2])[0]
    number, _, what = body.decode().partition(" ")
    raise OSError(int(number or 0) or errno.ESRCH, what or "the intermediate process ended before the clone")
