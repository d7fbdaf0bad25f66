"""What an engine says of a container, in our words: pure. The JSON is that of GET /containers/ID/json."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from reconciler.runtime.containerizer import Termination
from reconciler.runtime.docker import naming
from reconciler.states import Reason

_NEVER = "0001-01-01"
_COULD_NOT_START = {126, 127}


def moment(text: str) -> float | None:
    """Seconds since the epoch of the engine's RFC 3339 with nanoseconds; None for its "never"."""
    if not text or text.startswith(_NEVER):
        return None
    return datetime.fromisoformat(text).timestamp()


def health_checks(labels: Mapping[str, str]) -> tuple[Mapping[str, Any], ...]:
    """What its image says to check, of one that an agent made which knew of it."""
    try:
        found = json.loads(labels.get(naming.HEALTH, "[]"))
    except ValueError:
        return ()
    return tuple(each for each in found if isinstance(each, dict)) if isinstance(found, list) else ()


def is_alive(inspected: Mapping[str, Any]) -> bool:
    return bool(inspected["State"].get("Running"))


def never_started(inspected: Mapping[str, Any]) -> bool:
    """Made, and not started: by an agent that died in between, or by somebody else's failure."""
    return bool(inspected["State"].get("Status") == "created")


def ended(inspected: Mapping[str, Any], now: float) -> Termination:
    """How it ended. An engine folds a death by signal into its code as 128+n; a code that names a signal is therefore
    read as one, which an `exit 137` of the payload's own cannot be told from."""
    state = inspected["State"]
    at = moment(state.get("FinishedAt", "")) or now
    code, oom, said = int(state.get("ExitCode", 0)), bool(state.get("OOMKilled")), str(state.get("Error") or "")
    if said and code in _COULD_NOT_START:
        return Termination(code, None, Reason.LAUNCH_FAILED, at, said)
    number = code - 128 if code > 128 else 0
    if number not in {int(each) for each in signal.Signals}:
        return Termination(code, None, Reason.EXITED, at, f"exited with code {code}", oom_killed=oom)
    if oom and number == signal.SIGKILL:
        return Termination(None, number, Reason.OUT_OF_MEMORY, at, "killed for want of memory", oom_killed=True)
    return Termination(None, number, Reason.SIGNALED, at, f"killed by {signal.Signals(number).name}", oom_killed=oom)
