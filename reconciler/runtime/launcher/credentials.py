"""The last steps before an exec: who the process is, what it may do, and which system calls it may make.

    payload  with no_new_privs      credentials ▸ filter ▸ exec      nothing but the exec runs under the filter
             without                filter ▸ credentials ▸ exec      loading one then needs CAP_SYS_ADMIN, still there
    init                            credentials                      no filter: it is ours, and forks by clone3

Order inside `credentials`, and why (capabilities(7), prctl(2)):
  1. inheritable     of the init, which executes one more program: nothing outside the bounding set can become that
     bounding set    dropping from it needs SETPCAP
  2. keep            the change of user would empty the permitted set; only where something is to be held after it
  3. groups, gid, uid  the first two need what the last gives up
  4. held            permitted and effective as asked for, inheritable and ambient empty: root gets the rest of its set
                     from the bounding set at the exec, another user gets nothing
  5. no_new_privs    set-user-id programs and file capabilities give nothing any more
  6. undumpable, death signal   a change of credentials resets both
Standard library only: the child imports this.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.runtime.kernel import capabilities, seccomp, syscalls

Step = Mapping[str, Any]
Descriptors = dict[str, int]

FILTER = "filter"  # the descriptor, and the step's name


def step(uid: int, gid: int, groups: list[int]) -> dict[str, Any]:
    return {"op": "credentials", "uid": uid, "gid": gid, "groups": groups}


def _credentials(step: Step, fds: Descriptors) -> None:
    """bounding, held: names of capabilities; not given: left as they are, like uid, gid and groups. inheriting: what is
    held shall survive an exec, whoever we are then."""
    parent, death_signal = os.getppid(), syscalls.death_signal()
    dumpable = syscalls.prctl(syscalls.PR_GET_DUMPABLE, 0)
    held: int | None = None
    inheriting = bool(step.get("inheriting"))
    if "held" in step:
        held = capabilities.mask(step["held"])
        if inheriting:
            capabilities.inherit(held)
        capabilities.limit(capabilities.mask(step["bounding"]))
    if "uid" in step:
        if held:
            syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        os.setgroups(step["groups"])
        os.setresgid(step["gid"], step["gid"], step["gid"])
        os.setresuid(step["uid"], step["uid"], step["uid"])
    if held is not None:
        # without what this host has not got itself: that cannot be given
        capabilities.hold(held, inheriting=inheriting)
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 0)
    if step.get("no_new_privileges"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if not dumpable:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    if death_signal:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            raise ProcessLookupError(errno.ESRCH, "its init has ended")


def _filter(step: Step, fds: Descriptors) -> None:
    seccomp.load(os.pread(fds[FILTER], os.fstat(fds[FILTER]).st_size, 0))


OPERATIONS: dict[str, Callable[[Step, Descriptors], None]] = {"credentials": _credentials, FILTER: _filter}
