"""What the loop counts of itself, for the metrics: passes, and what became of its actions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.loop.values import Action
from reconciler.loop.workers import Ending, Superseded


@dataclass(slots=True)
class Figures:
    """Since the agent's start. seconds: that passes took together; last: when one last succeeded, since the epoch."""

    passes: int = 0
    failed: int = 0
    seconds: float = 0.0
    last: float | None = None
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)

    def passed(self, seconds: float, now: float, *, sound: bool) -> None:
        self.passes += 1
        self.seconds += seconds
        if sound:
            self.last = now
        else:
            self.failed += 1

    def acted(self, action: Action, ending: Ending) -> None:
        outcome = "done" if ending is None else "superseded" if isinstance(ending, Superseded) else "failed"
        self.actions[action.op.value, outcome] += 1

    def as_json(self, present: Mapping[str, int]) -> Mapping[str, object]:
        """present: what there is at this moment, by name."""
        counted = [{"op": op, "outcome": outcome, "count": n} for (op, outcome), n in sorted(self.actions.items())]
        passes = {"passes": self.passes, "failed": self.failed, "seconds": self.seconds, "last": self.last}
        return {**passes, "actions": counted, "present": dict(present)}
