"""What `history` shows: revisions from what is on disk, with or without an agent."""

from __future__ import annotations

from typing import Any

from reconciler.agent.paths import Places
from reconciler.agent.store import Store
from reconciler.loop.revisions import MARK, Revision, Rollback, changes, in_force
from reconciler.loop.texts import commit_json, timestamp
from reconciler.spec.normal import UnreadableSpec


def told(places: Places, name: str) -> list[dict[str, Any]]:
    """Oldest first, the public form; [] when there are none."""
    store = Store(places)
    revisions = store.revisions(name)
    records = store.load().records if revisions else {}
    tree = {other: record for other, record in records.items() if other.partition(".")[0] == name}
    details = store.marks(MARK).get(name)
    rollback = Rollback.of(details) if details is not None else None
    now = in_force(revisions, tree, rollback)
    return [
        {
            "revision": one.number,
            "at": timestamp(one.at),
            "source": one.origin.file,
            "commit": commit_json(one.origin.commit),
            "digest": one.digest,
            "inForce": one.number == now,
            "setAside": rollback is not None and one.digest == rollback.aside and one.number != now,
            "changes": list(_changes(before, one)),
        }
        for before, one in zip((None, *revisions), revisions, strict=False)
    ]


def _changes(before: Revision | None, after: Revision) -> tuple[str, ...]:
    try:
        return changes(before, after)
    except UnreadableSpec as error:
        return (f"cannot be compared: {error}",)
