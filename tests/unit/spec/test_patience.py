"""Looking at places of which some never answer."""

from __future__ import annotations

import threading
import time

import pytest

from reconciler.spec.sources.patience import Patient


def test_what_hangs_keeps_nobody_waiting_and_is_looked_at_again_once_it_has_answered() -> None:
    answer, looked = threading.Event(), []

    def look(place: str) -> str:
        looked.append(place)
        if place == "hung":
            answer.wait()
        return place.upper()

    patient = Patient(look, 0.05)
    for _ in range(2):
        assert patient.all(["a", "hung", "b"]) == ({"a": "A", "b": "B"}, {"hung"})
    assert looked.count("hung") == 1
    answer.set()
    deadline = time.monotonic() + 10
    while patient.all(["hung"]) != ({"hung": "HUNG"}, set()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_looking_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        Patient(lambda place: 1 // place).all([1, 0])
