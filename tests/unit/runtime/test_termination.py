"""How raw wait statuses become an ending: one row per combination of what was written down."""

from __future__ import annotations

import signal

import pytest

from reconciler.runtime.isolators.isolator import Limitation
from reconciler.runtime.mesos.termination import terminate
from reconciler.states import Reason

EXIT_0, EXIT_3, EXIT_137 = 0, 3 << 8, 137 << 8
TERM, KILL, SEGV_CORE = int(signal.SIGTERM), int(signal.SIGKILL), int(signal.SIGSEGV) | 0x80
OOM = "ran out of memory: 64Mi of 64Mi"

#   init says, keeper says, parent ended, oom  →  code, signal, reason, oom killed
TABLE = [
    (EXIT_0, EXIT_0, False, None, 0, None, Reason.EXITED, False),
    (EXIT_3, EXIT_0, False, None, 3, None, Reason.EXITED, False),
    (EXIT_137, EXIT_0, False, None, 137, None, Reason.EXITED, False),  # never taken for a signal
    (TERM, EXIT_0, False, None, None, TERM, Reason.SIGNALED, False),
    (SEGV_CORE, EXIT_0, False, None, None, int(signal.SIGSEGV), Reason.SIGNALED, False),
    (40, EXIT_0, False, None, None, 40, Reason.SIGNALED, False),  # a real-time signal has no name
    (None, EXIT_3, False, None, 3, None, Reason.EXITED, False),  # no init
    (None, KILL, False, None, None, KILL, Reason.SIGNALED, False),  # the init itself was killed
    (EXIT_3, None, False, None, 3, None, Reason.EXITED, False),  # no keeper
    (None, None, False, None, None, None, Reason.EXIT_STATUS_LOST, False),
    (KILL, EXIT_0, False, OOM, None, KILL, Reason.OUT_OF_MEMORY, True),
    (None, KILL, False, OOM, None, KILL, Reason.OUT_OF_MEMORY, True),
    (EXIT_3, EXIT_0, False, OOM, 3, None, Reason.EXITED, True),  # a child was killed, the payload coped
    (TERM, EXIT_0, False, OOM, None, TERM, Reason.SIGNALED, True),
    (None, KILL, True, None, None, KILL, Reason.PARENT_ENDED, False),
    (None, None, True, None, None, KILL, Reason.PARENT_ENDED, False),
    (KILL, KILL, True, None, None, KILL, Reason.PARENT_ENDED, False),
    (EXIT_0, EXIT_0, True, None, 0, None, Reason.EXITED, False),  # it had ended before its parent did
    (EXIT_3, KILL, True, None, 3, None, Reason.EXITED, False),
    (TERM, KILL, True, None, None, TERM, Reason.SIGNALED, False),
]


@pytest.mark.parametrize(("init", "keeper", "parent", "oom", "code", "number", "reason", "oom_killed"), TABLE)
def test_an_ending_is_told_from_what_was_written_down(
    init: int | None,
    keeper: int | None,
    parent: bool,
    oom: str | None,
    code: int | None,
    number: int | None,
    reason: Reason,
    oom_killed: bool,
) -> None:
    found = terminate(exit_status=init, reaped=keeper, parent_ended=parent, oom=oom, now=7.0)
    assert (found.code, found.signal, found.reason, found.oom_killed) == (code, number, reason, oom_killed)
    assert found.at == 7.0 and found.message


@pytest.mark.parametrize(("status", "code", "number"), [(EXIT_0, 0, None), (TERM, None, TERM), (None, None, None)])
def test_what_an_isolator_had_ended_failed_however_it_took_it(
    status: int | None, code: int | None, number: int | None
) -> None:
    limited = Limitation(Reason.DISK_LIMIT_EXCEEDED, "8Mi of 4Mi")
    found = terminate(exit_status=status, reaped=None, parent_ended=False, oom=None, limited=limited, now=0)
    assert (found.code, found.signal, found.reason, found.message) == (code, number, limited.reason, limited.message)
    assert not found.success


def test_only_exit_code_0_is_success() -> None:
    endings = [terminate(exit_status=s, reaped=None, parent_ended=False, oom=None, now=0) for s in (0, 256, 9, None)]
    assert [each.success for each in endings] == [True, False, False, False]


def test_the_message_names_the_signal_or_the_limit() -> None:
    killed = terminate(exit_status=TERM, reaped=None, parent_ended=False, oom=None, now=0)
    starved = terminate(exit_status=KILL, reaped=None, parent_ended=False, oom=OOM, now=0)
    unnamed = terminate(exit_status=40, reaped=None, parent_ended=False, oom=None, now=0)
    assert (killed.message, starved.message) == ("killed by SIGTERM", OOM)
    assert unnamed.message == "killed by signal 40"
