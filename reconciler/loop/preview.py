"""What would be done: the plan, from values only. That it takes no worker and no journal is what makes it dry."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from reconciler.loop import fuse
from reconciler.loop.desired import desire
from reconciler.loop.keeping import keep
from reconciler.loop.life import settle
from reconciler.loop.plan import plan
from reconciler.loop.revisions import Reverted
from reconciler.loop.suspending import Suspension
from reconciler.loop.values import Desired, Observed, Plan, Recorded
from reconciler.runtime.containerizer import ContainerStatus
from reconciler.spec.sources.listing import Listing


@dataclass(frozen=True, slots=True)
class Preview:
    """`code` is the exit status of `plan`: 0 nothing to do, 2 changes, 1 something is wrong with the source.
    stale: why the source may say something else by now."""

    desired: Desired
    plan: Plan
    stale: str = ""

    @property
    def complaints(self) -> tuple[str, ...]:
        found = complaints(self.desired)
        return (self.stale, *found) if self.stale and not self.desired.unknown_reason else found

    @property
    def code(self) -> int:
        if self.complaints:
            return 1
        return 2 if self.plan.actions or self.plan.holds else 0


def preview(
    listing: Listing,
    recorded: Recorded,
    statuses: Mapping[str, ContainerStatus],
    identity: str,
    now: float,
    unknown: Mapping[str, str] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    held: Set[str] = frozenset(),
    approved: Set[str] = frozenset(),
    by_command: Mapping[str, Suspension] | None = None,
    rollbacks: Mapping[str, Reverted] | None = None,
    restarts_per_hour: int = fuse.DEFAULT,
) -> Preview:
    """`statuses`: what was observed; `unknown`: name → why it could not be; `labels`: of this node; `held`: by the
    mass-deletion guard until now; `approved`: names whose end was; `by_command`: what is suspended so;
    `rollbacks`: by name; `restarts_per_hour`: the fuse."""
    observed = Observed(statuses, unknown or {})
    asked = desire(listing, recorded, identity, labels or {}, rollbacks or {})
    desired, _ = keep(asked, recorded, approved, held)
    settled = settle(recorded, observed, now)
    made = plan(desired, settled, observed, now, by_command=by_command, restarts_per_hour=restarts_per_hour)
    return Preview(desired, made)


def complaints(desired: Desired) -> tuple[str, ...]:
    """Everything that keeps the source from being carried out as written, each thing once."""
    found = [desired.unknown_reason] if desired.unknown_reason else []
    found += [f"{name}: {desired.refusals[name].message}" for name in sorted(desired.refusals)]
    told = "\n".join(found)
    for file in sorted(desired.errors):
        found += [line for line in desired.errors[file].split("\n") if line not in told]
    return tuple(found)
