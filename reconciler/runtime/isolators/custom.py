"""Isolators of other packages: entry points of the group `reconciler.isolators`, used when `--isolation` names them.

An entry point has the isolator's name and is called with a `Host`; what it returns derives from `PassiveIsolator`, so
that it goes on working when the contract grows. It runs within the agent, with all that the agent may do. What
it raises is the failure of one container, with its name in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import metadata
from typing import Any

from reconciler.errors import ReconcilerError, Retryable, Terminal
from reconciler.runtime.isolators.isolator import Host, Isolator, PassiveIsolator

GROUP = "reconciler.isolators"
_METHODS = [name for name, value in vars(PassiveIsolator).items() if callable(value) and not name.startswith("_")]


def names() -> list[str]:
    """Of those that are installed."""
    return sorted({each.name for each in metadata.entry_points(group=GROUP)})


def load(name: str, host: Host) -> Isolator:
    """Raises Terminal for one that cannot be had."""
    (found, *_) = metadata.entry_points(group=GROUP, name=name)
    where = f"--isolation {name}: the isolator of {found.dist.name if found.dist else found.value}"
    try:
        made = found.load()(host)
    except Exception as error:  # whatever somebody else's code raises
        raise Terminal(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(made, PassiveIsolator):
        raise Terminal(f"{where}: {found.value} returns no PassiveIsolator but {type(made).__name__}")
    if made.name != name:
        raise Terminal(f"{where} calls itself {made.name!r}; entry point and isolator must have one name")
    for method in _METHODS:
        setattr(made, method, _guarded(name, getattr(made, method)))
    return made


def _guarded(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except (OSError, ReconcilerError):
            raise
        except Exception as error:
            what = f"the isolator {name} failed in {method.__name__}: {type(error).__name__}: {error}"
            raise Retryable(what) from error

    return call
