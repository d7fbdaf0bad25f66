"""What goes on although no file asks for it any more: `prune`, and the guard against mass deletion. Pure.

    prune not given   destroyed; a mass deletion waits for approval
    prune: auto       destroyed, in a mass deletion too: that is approved ahead
    prune: confirm    goes on, Held, until it is approved
    prune: never      goes on until it is destroyed by command

Of a tree that is dropped, the topmost dropped container decides. What is kept is asked for as it was last applied:
it is started again when it ends, as it was before.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from reconciler.loop import guard
from reconciler.loop.values import Desired, DesiredContainer, Kept, Record, Recorded, ancestors
from reconciler.states import Reason

MARK = "held"
"""The journal's kind of mark for what the mass-deletion guard holds."""
APPROVED = "approved"
"""… and for what was approved to be destroyed: until it is, or a file asks for it again."""


def dropped(desired: Desired, recorded: Recorded) -> dict[str, str]:
    """Names of this source that no file asks for any more → the topmost dropped container of their tree."""
    if not desired.complete:
        return {}
    gone = {
        name
        for name, record in recorded.records.items()
        if record.origin.source == desired.source
        and not record.deleting
        and name not in desired.containers
        and name not in desired.held_names
    }
    return {name: next(one for one in (*ancestors(name), name) if one in gone) for name in gone}


def keep(
    desired: Desired, recorded: Recorded, approved: Set[str] = frozenset(), before: Set[str] = frozenset()
) -> tuple[Desired, frozenset[str]]:
    """`desired` with what is kept, and the top-level names that are held as a mass deletion. approved: names whose
    end was approved; before: the top-level names held until now."""
    mass = guard.held(desired, recorded, approved, before)
    containers, kept = dict(desired.containers), {}
    for name, top in dropped(desired, recorded).items():
        record = recorded.records[name]
        if (why := _why(recorded.records[top], desired, mass, approved)) is not None:
            kept[name] = why
            containers[name] = DesiredContainer(record.spec, record.digest, record.origin, record.contents)
    return (replace(desired, containers=containers, kept=kept) if kept else desired), mass


def _why(top: Record, desired: Desired, mass: Set[str], approved: Set[str]) -> Kept | None:
    name, cause = top.name, why_gone(top, desired)
    if top.spec.prune == "never":
        message = f"{cause}; it is kept, its prune being never, until `reconciler destroy {name}`"
        return Kept(Reason.PRUNE_UNCONFIRMED, message, held=False)
    if name in mass:
        message = f"one change drops most names of this source; `reconciler approve {name}` lets it be destroyed"
        return Kept(Reason.MASS_DELETION, message, held=True)
    if top.spec.prune == "confirm" and name not in approved:
        message = f"{cause}; its prune is confirm: `reconciler approve {name}` lets it be destroyed"
        return Kept(Reason.PRUNE_UNCONFIRMED, message, held=True)
    return None


def why_gone(record: Record, desired: Desired) -> str:
    other = desired.elsewhere.get(record.name)
    if other is not None:
        return other.message
    file = record.origin.file
    mentioned = any(want.origin.file == file for name, want in desired.containers.items() if name not in desired.kept)
    return f"{file} no longer has it" if mentioned else f"{file} is gone"
