"""Everything a decision may depend on, and what follows from it about one name. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from reconciler.loop import fuse
from reconciler.loop.ordering import met
from reconciler.loop.values import Desired, DesiredContainer, Life, Observed, Record, Recorded, Trouble, ancestors, over
from reconciler.spec.changes import Change, compare, compare_contents
from reconciler.spec.model import ContainerSpec, Dependency


@dataclass(frozen=True, slots=True)
class Context:
    """`doomed`: names whose destruction was asked for; `suspended`: name → why."""

    desired: Desired
    recorded: Recorded
    observed: Observed
    now: float
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    doomed: Set[str] = frozenset()
    suspended: Mapping[str, str] = field(default_factory=dict)
    restarts_per_hour: int = fuse.DEFAULT

    def names(self) -> set[str]:
        return {
            *self.desired.containers,
            *self.recorded.records,
            *self.recorded.unreadable,
            *self.observed.containers,
            *self.observed.unknown,
        }

    def is_there(self, name: str) -> bool:
        """Not certainly gone."""
        recorded, observed = self.recorded, self.observed
        return any(
            name in known for known in (recorded.records, recorded.unreadable, observed.containers, observed.unknown)
        )

    def is_doomed(self, name: str) -> bool:
        """Its destruction was asked for, or that of something it is nested in."""
        return bool(self.doomed) and (name in self.doomed or any(one in self.doomed for one in ancestors(name)))

    def alive(self, name: str) -> bool:
        """Something of it runs, or is on its way up or down."""
        return not over(self.observed.containers.get(name))

    def waits_until(self, life: Life) -> float | None:
        """When it may be started again, if that is not yet."""
        at, _ = fuse.next_try(life, self.restarts_per_hour)
        return at if at is not None and at > self.now else None

    def running(self, name: str) -> bool:
        seen = self.observed.containers.get(name)
        return seen is not None and seen.running

    def ready(self, name: str) -> bool:
        return self.observed.ready(name)

    def asked(self, name: str) -> tuple[str, ...]:
        """What it depends on, as it is to be; as it was when nobody asks for it any more."""
        want, record = self.desired.containers.get(name), self.recorded.records.get(name)
        return _needs(want.spec if want else record.spec if record else None)

    def applied(self, name: str) -> tuple[str, ...]:
        """What it depended on when it was last applied."""
        want, record = self.desired.containers.get(name), self.recorded.records.get(name)
        return _needs(record.spec if record else want.spec if want else None)

    def met(self, dependency: Dependency) -> bool:
        name = dependency.container
        if name in self.observed.unknown:
            return False
        record = self.recorded.records.get(name)
        seen = self.observed.containers.get(name)
        started = seen is not None and seen.running and seen.begun
        return met(dependency.condition, record, running=started, ready=self.ready(name))


def changes_of(record: Record, want: DesiredContainer) -> tuple[Change, ...]:
    """What differs between what was applied and what is asked for."""
    if record.digest == want.digest:
        return ()
    return (*compare(record.spec, want.spec), *compare_contents(record.contents, want.contents))


def _needs(spec: ContainerSpec | None) -> tuple[str, ...]:
    return tuple(each.container for each in spec.depends_on) if spec is not None else ()
