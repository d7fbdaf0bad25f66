"""What a process in a mapped user namespace cannot do for itself, done by one with the host's privileges: STEPS.

    keeper ─clone─▶ child, in its user namespace ─"go"─▶ host side      both made, and blocked, at the fork
                                                   take each tree, id-map those that ask for it; an overlay of
                                                   id-mapped layers
                    child ◀──descriptors── copy them into a mount namespace of the child's user namespace

That last copy is why it is done here and not by the agent: the kernel locks nodev, nosuid and read-only on a mount
that goes to a less privileged mount namespace (mount_namespaces(7)), so that no root in the container takes them
away; a descriptor passed on as it is would lack the locks. Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from reconciler.runtime.kernel import mounts, proc, syscalls
from reconciler.runtime.launcher.root_steps import overlay
from reconciler.runtime.launcher.steps import take

ROLE = "host"  # of the child's end of the socket
OPENED = "ns:"  # before the kind: the role of a namespace of its parent's that the child is to enter

Step = Mapping[str, Any]

STEPS: Mapping[str, Callable[[Step, dict[str, int], int], int]] = {
    "take": take,
    "overlay": lambda step, fds, userns: overlay(step, userns),
}
"""Operations that end in a detached mount, by name."""

_PLACE = "/proc"  # a directory of every host; what is mounted there is seen by the host side alone
_LARGEST = 1 << 16
_MOST = 253  # descriptors in a message, SCM_MAX_FD


def pair() -> tuple[int, int]:
    """(for the host side, for the child)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return ours.detach(), theirs.detach()


def ask(fd: int) -> dict[str, int]:
    """The child's part: role → tree. Raises OSError as the host side had it. Closes `fd`."""
    with socket.socket(fileno=fd) as sock:
        sock.send(b"g")
        text, fds, _, _ = socket.recv_fds(sock, _LARGEST, _MOST, socket.MSG_CMSG_CLOEXEC)
    if not text:
        raise OSError(errno.ECONNRESET, "the process with the host's privileges ended without an answer")
    answer = json.loads(text)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["what"], answer["path"])
    return dict(zip(answer["names"], fds, strict=True))


def namespaces(kinds: Iterable[str], pidfd: int) -> dict[str, int]:
    """Role → namespace of that process, opened. Raises ProcessLookupError when it has ended."""
    found: dict[str, int] = {}
    try:
        for kind in kinds:
            file = f"/proc/{proc.pid_of(pidfd)}/ns/{syscalls.NAMESPACES[kind][1]}"
            found[OPENED + kind] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        if proc.pid_of(pidfd) < 0:
            raise ProcessLookupError(errno.ESRCH, "the parent has ended")
    except BaseException:
        for fd in found.values():
            os.close(fd)
        raise
    return found


def serve(steps: Sequence[Step], child: int, fds: dict[str, int]) -> NoReturn:
    """The body of the host side. child: a pid, whose user namespace it is; gone before it asked: nothing is done.
    fds: its end of the socket, and what the steps name."""
    signal.set_wakeup_fd(-1)
    syscalls.close_all_but({2, *fds.values()})
    fd = fds.pop(ROLE)
    syscalls.set_process_name("host side")
    with socket.socket(fileno=fd) as sock:
        if sock.recv(1):
            try:
                trees = _taken(steps, child, fds)
            except OSError as error:
                what = error.strerror or str(error)
                sock.send(json.dumps({"errno": error.errno or 0, "what": what, "path": error.filename}).encode())
            else:
                socket.send_fds(sock, [json.dumps({"names": list(trees)}).encode()], list(trees.values()))
    os._exit(0)


def _taken(steps: Sequence[Step], child: int, fds: dict[str, int]) -> dict[str, int]:
    userns = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    return _locked({step["as"]: STEPS[step["op"]](step, fds, userns) for step in steps}, userns)


def _locked(trees: Mapping[str, int], userns: int) -> dict[str, int]:
    """Copies of them, as a mount namespace of that user namespace has them."""
    place = mounts.fresh("tmpfs", "taken", {"mode": "755"}, 0)
    at = os.open(_PLACE, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.attach(place, at)
    for name, tree in trees.items():
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            os.mkdir(name, dir_fd=place)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=place))
        mounts.attach(tree, os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place))
    syscalls.setns(userns, syscalls.CLONE_NEWUSER)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE | syscalls.AT_SYMLINK_NOFOLLOW
    return {name: syscalls.open_tree(f"{_PLACE}/{name}", flags) for name in trees}
