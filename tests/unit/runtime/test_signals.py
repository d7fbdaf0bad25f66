"""Every name of a signal that a spec may have has a number."""

from __future__ import annotations

import signal

import pytest

from reconciler.runtime import signals
from reconciler.spec.policies import KillPolicy


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGTERM", signal.SIGTERM),
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
    ],
)
def test_a_name_has_its_number(name: str, number: int) -> None:
    assert signals.number(KillPolicy(signal=name).signal) == number
