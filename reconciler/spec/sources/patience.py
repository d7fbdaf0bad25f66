"""Looks at what may never answer: a file system can hang for as long as its server does.

Invariant: what hangs keeps the others waiting once, for `patience` seconds, and is not looked at again before it has
answered; its thread is left behind, and keeps no process from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

P = TypeVar("P")
T = TypeVar("T")

PATIENCE = 1.0
"""Seconds: a disk that is busy answers sooner."""


@dataclass(slots=True)
class _Sweep(Generic[P, T]):
    """Places looked at one after the other; `at`: the number of the one that is being waited for."""

    places: Sequence[P]
    at: int = 0
    left_behind: bool = False
    found: dict[P, T] = field(default_factory=dict)
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Patient(Generic[P, T]):
    """`all` is for one thread at a time."""

    def __init__(self, look: Callable[[P], T], patience: float = PATIENCE) -> None:
        self._look, self._patience = look, patience
        self._lock = threading.Lock()
        self._hung: set[P] = set()

    def all(self, places: Iterable[P]) -> tuple[dict[P, T], set[P]]:
        """(place → what was found there, those that do not answer). Raises what `look` does."""
        asked = set(places)
        with self._lock:
            left: Sequence[P] = list(asked - self._hung)
        found: dict[P, T] = {}
        while left:
            sweep: _Sweep[P, T] = _Sweep(left)
            threading.Thread(target=self._run, args=(sweep,), name="looking", daemon=True).start()
            left = self._until_no_progress(sweep)
            found |= sweep.found
            if sweep.error is not None:
                raise sweep.error
        return found, asked - found.keys()

    def _until_no_progress(self, sweep: _Sweep[P, T]) -> Sequence[P]:
        """What is left to be looked at."""
        before = -1
        while not sweep.done.wait(self._patience):
            with self._lock:
                if sweep.at == before < len(sweep.places):
                    sweep.left_behind = True
                    self._hung.add(sweep.places[sweep.at])
                    return sweep.places[sweep.at + 1 :]
                before = sweep.at
        return ()

    def _run(self, sweep: _Sweep[P, T]) -> None:
        try:
            for place in sweep.places:
                result = self._look(place)
                with self._lock:
                    if sweep.left_behind:
                        return
                    sweep.found[place] = result
                    sweep.at += 1
        except BaseException as error:  # noqa: BLE001 - the last frame of a thread: handed on
            sweep.error = error
        finally:
            with self._lock:
                if sweep.left_behind:
                    self._hung.discard(sweep.places[sweep.at])
                sweep.done.set()
