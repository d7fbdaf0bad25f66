"""Killing through the v1 freezer: stop everything first, so that nothing forks away from the signal.

    FROZEN (wait, FREEZING is a transient) ─▶ SIGKILL to every process below ─▶ THAWED, on every way out

A frozen process takes its SIGKILL only when thawed, so the order is freeze, kill, thaw (Mesos's TasksKiller). A task in
an uninterruptible sleep can hold FREEZING up for ever: then the kill is done all the same and repeated, which a
fork storm cannot outrun for long. Kernel: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
Standard library only.
"""

from __future__ import annotations

import os
import signal
import time

from reconciler.runtime.kernel import cgroups

_FREEZE = 1.0  # seconds that one attempt to reach FROZEN may take
_PAUSE = 0.0005
_THAW_EVERY = 50  # polls: a thaw in between gets a freeze out of most deadlocks
_ROUNDS = 5


def kill(directory: str) -> None:
    """SIGKILL everything in the cgroup and below it; a missing cgroup is success."""
    for _ in range(_ROUNDS):
        try:
            frozen = _freeze(directory)
            _kill_all(directory)
        except OSError as error:
            if not cgroups.gone(error):
                raise
            return
        finally:
            _thaw(directory)
        if frozen:
            return


def _freeze(directory: str) -> bool:
    """Whether FROZEN was reached within the time."""
    deadline = time.monotonic() + _FREEZE
    polls = 0
    while True:
        cgroups.write(directory, "freezer.state", "FROZEN")
        if cgroups.read(directory, "freezer.state") == "FROZEN":
            return True
        if time.monotonic() >= deadline:
            return False
        polls += 1
        if polls % _THAW_EVERY == 0:
            cgroups.write(directory, "freezer.state", "THAWED")
        time.sleep(_PAUSE)


def _kill_all(directory: str) -> None:
    for pid in cgroups.pids_below(directory):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _thaw(directory: str) -> None:
    """The cgroup and each below it, which a payload may have frozen itself."""
    for each in cgroups.below(directory):
        try:
            cgroups.write(each, "freezer.state", "THAWED")
        except OSError as error:
            if not cgroups.gone(error):
                raise
