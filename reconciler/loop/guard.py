"""The guard against mass deletion: an emptied or half-restored directory must not take everything down.

Invariant: a settled listing that drops at least 5 top-level names and more than half of its source's
destroys none of them before someone approves. What was held once stays held, although fewer are left
after some were approved or put back. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.loop.values import Desired, Record, Recorded

MINIMUM = 5


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person has allowed to be deleted: some top-level names, or whatever is held now."""

    names: frozenset[str] = frozenset()
    everything: bool = False

    def covers(self, name: str) -> bool:
        return self.everything or name in self.names


def dropped(desired: Desired, recorded: Recorded) -> frozenset[str]:
    """Top-level names of this source that its listing no longer has and that nothing else keeps."""
    if not desired.complete:
        return frozenset()
    return frozenset(
        name
        for name, record in recorded.records.items()
        if _counts(record, desired) and name not in desired.containers and name not in desired.held_names
    )


def held(desired: Desired, recorded: Recorded, approval: Approval, before: frozenset[str]) -> frozenset[str]:
    """The top-level names whose destruction waits for approval. `before`: those held until now."""
    gone = dropped(desired, recorded)
    total = sum(_counts(record, desired) for record in recorded.records.values())
    if len(gone) >= MINIMUM and 2 * len(gone) > total:
        candidates = gone
    else:
        candidates = gone & before
    return frozenset(name for name in candidates if not approval.covers(name))


def _counts(record: Record, desired: Desired) -> bool:
    return record.spec.parent is None and not record.deleting and record.origin.source == desired.source
