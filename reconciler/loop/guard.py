"""The guard against mass deletion: an emptied or half-restored directory must not take everything down.

Invariant: a settled listing that drops at least 5 top-level names and more than half of its source's
destroys none of them before someone approves; those that declare `prune: auto` do not count. What was held once
stays held, although fewer are left after some were approved or put back. Pure.
"""

from __future__ import annotations

from collections.abc import Set

from reconciler.loop.values import Desired, Record, Recorded

MINIMUM = 5


def dropped(desired: Desired, recorded: Recorded) -> frozenset[str]:
    """Top-level names of this source that its listing no longer has and that nothing else keeps."""
    if not desired.complete:
        return frozenset()
    return frozenset(
        name
        for name, record in recorded.records.items()
        if _counts(record, desired) and name not in desired.containers and name not in desired.held_names
    )


def held(
    desired: Desired, recorded: Recorded, approved: Set[str] = frozenset(), before: Set[str] = frozenset()
) -> frozenset[str]:
    """The top-level names whose destruction waits for approval. `before`: those held until now."""
    gone = dropped(desired, recorded)
    total = sum(_counts(record, desired) for record in recorded.records.values())
    most = len(gone) >= MINIMUM and 2 * len(gone) > total
    return (gone if most else gone & before) - approved


def _counts(record: Record, desired: Desired) -> bool:
    """Deletion of what declares `prune: auto` is approved ahead."""
    ours = record.origin.source == desired.source and not record.deleting
    return ours and record.spec.parent is None and record.spec.prune != "auto"
