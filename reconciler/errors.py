"""Errors by what the caller can do about them.

`Terminal`: nothing will change until the spec (or the host) does. `Retryable`: try again, later
each time. `Unsupported`: this containerizer or launcher cannot do it; another one may.
A message says what, where, why and what happens next; `reason` is of the closed vocabulary.
"""

from __future__ import annotations

from reconciler.states import Reason


class ReconcilerError(Exception):
    """Base of every error a user can cause or must be told of; never shown with a traceback."""

    def __init__(self, message: str, reason: Reason = Reason.LAUNCH_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class Terminal(ReconcilerError):
    """Cannot succeed until the spec changes."""


class Retryable(ReconcilerError):
    """May succeed when tried again."""


class Unsupported(ReconcilerError):
    """This host, launcher or containerizer cannot give what the spec names."""

    def __init__(self, message: str, reason: Reason = Reason.NOT_ON_THIS_LAUNCHER) -> None:
        super().__init__(message, reason)


class ParentEnded(ReconcilerError):
    """What it is nested in ended while it was launched: a run that ended with its parent, and no failure."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Reason.PARENT_ENDED)


class LaunchFailed(ReconcilerError):
    """A launch that got as far as a run and failed: counts as a run with exit `code` (127: the
    command was not found, 126: it could not be executed or set-up failed)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, Reason.LAUNCH_FAILED)
        self.code = code
