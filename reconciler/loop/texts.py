"""Facts in words: terminations, durations, times, places. One wording each, for plans, rows and logs.

Pure. Every sentence about the future names an absolute time, so that a row does not change (and is
not written again) merely because time passes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reconciler.runtime.containerizer import LIMITED, Termination
from reconciler.states import Reason

if TYPE_CHECKING:  # reading verbs import this module and must not pay for pydantic
    from reconciler.loop.values import Origin
    from reconciler.spec.sources.listing import Commit


_SAID_IN_FULL = frozenset({Reason.EXITED, Reason.SIGNALED, Reason.PARENT_ENDED})


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def span(seconds: float) -> str:
    """A duration to read: "0.4 s", "12 s", "3 min", "2 h"."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def ending(termination: Termination) -> str:
    """How a run ended, as the rest of a sentence that begins with the container's name."""
    text, says_more = _ending(termination), termination.reason not in _SAID_IN_FULL
    return f"{text}: {termination.message}" if termination.message and says_more else text


def _ending(termination: Termination) -> str:
    if termination.reason is Reason.LAUNCH_FAILED:
        return f"could not be started (code {termination.code})"
    if termination.reason is Reason.PARENT_ENDED:
        return "ended with its parent"
    if termination.reason is Reason.OUT_OF_MEMORY or termination.oom_killed:
        return "was killed for lack of memory"
    if termination.reason is Reason.UNHEALTHY:
        return "was ended as unhealthy"
    if termination.reason in LIMITED:
        return "was ended"
    if termination.reason is Reason.DEADLINE_EXCEEDED:
        return "ran for too long"
    if termination.signal is not None:
        return f"was killed by signal {termination.signal} ({signal_name(termination.signal)})"
    if termination.code is not None:
        return f"exited with code {termination.code}"
    return "ended, and its exit status could not be had"


def place(origin: Origin) -> str:
    return f"{origin.file}:{origin.line}"


def rolled_back(number: int, file: str) -> str:
    return f"rolled back to revision {number}; the present content of {file} is set aside until it is edited"


def listed(items: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = sorted(items)
    return f"{', '.join(most)} and {last}" if most else last


def commit_json(commit: Commit | None) -> dict[str, Any] | None:
    """The public form of what a spec was read from."""
    if commit is None:
        return None
    return {
        "url": commit.url,
        "id": commit.id,
        "author": commit.author,
        "subject": commit.subject,
        "time": timestamp(commit.time),
    }


def exit_json(exit: Termination | None) -> dict[str, Any] | None:
    """The public form of how a run ended."""
    if exit is None:
        return None
    return {
        "code": exit.code,
        "signal": exit.signal,
        "reason": exit.reason.value,
        "oomKilled": exit.oom_killed,
        "message": exit.message,
        "at": timestamp(exit.at),
    }
