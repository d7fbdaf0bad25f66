"""From raw wait statuses to a Termination (wait(2)); pure.

The payload's own status, written by its init, wins over that of the init: a death by signal is never folded
into 128+n, and an init that was itself killed has no payload status to give. A nested container that
died by SIGKILL while its parent was on its way out did not fail: its parent ended.
"""

from __future__ import annotations

import os
import signal

from reconciler.runtime.containerizer import Termination
from reconciler.runtime.isolators.isolator import Limitation
from reconciler.states import Reason


def terminate(
    *,
    exit_status: int | None,
    reaped: int | None,
    parent_ended: bool,
    oom: str | None,
    limited: Limitation | None = None,
    now: float,
) -> Termination:
    """exit_status: from the init; reaped: of the first process; oom: what the memory isolator found, or None; limited:
    what an isolator had it ended for, however it then took it."""
    status = exit_status if exit_status is not None else reaped
    if parent_ended and (status is None or _signal(status) == signal.SIGKILL):
        return Termination(None, int(signal.SIGKILL), Reason.PARENT_ENDED, now, "its parent ended")
    if limited is not None:
        code = None if status is None or _signal(status) else os.waitstatus_to_exitcode(status)
        number = None if status is None else _signal(status)
        return Termination(code, number, limited.reason, now, limited.message, oom_killed=oom is not None)
    if status is None:
        return Termination(None, None, Reason.EXIT_STATUS_LOST, now, "nobody was left to read its exit status")
    number = _signal(status)
    if number is None:
        code = os.waitstatus_to_exitcode(status)
        return Termination(code, None, Reason.EXITED, now, f"exited with code {code}", oom_killed=oom is not None)
    if oom is not None and number == signal.SIGKILL:
        return Termination(None, number, Reason.OUT_OF_MEMORY, now, oom, oom_killed=True)
    return Termination(
        None, number, Reason.SIGNALED, now, f"killed by {signal_name(number)}", oom_killed=oom is not None
    )


def _signal(status: int) -> int | None:
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
