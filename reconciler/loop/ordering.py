"""Who starts after whom, and ends before whom: parents, `dependsOn` and init containers, which are dependencies. Pure.

    start:  parents before their nested, dependencies before what depends on them, else by name
    end:    the other way round

Invariants: an order exists whatever is asked for: a parent always comes first, and a circle is cut somewhere;
a condition is judged by what is observed and recorded, so it outlives the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from reconciler.loop.life import OURS
from reconciler.loop.values import Life, Record, ancestors
from reconciler.spec.model import ContainerSpec

Needs = Callable[[str], Iterable[str]]
"""The names that a name depends on, parents apart."""


def by_tree(name: str) -> tuple[str, ...]:
    """Sort key: a parent right before what is nested in it."""
    return tuple(name.split("."))


def start_order(names: Collection[str], needs: Needs) -> list[str]:
    known, entered = set(names), set[str]()
    order: dict[str, None] = {}
    for name in sorted(known, key=by_tree):
        stack = [(name, iter(_first(name, needs)))]
        entered.add(name)
        while stack:
            here, ways = stack[-1]
            onwards = next((other for other in ways if other in known and other not in entered), None)
            if onwards is not None:
                entered.add(onwards)
                stack.append((onwards, iter(_first(onwards, needs))))
                continue
            stack.pop()
            order |= dict.fromkeys(other for other in (*ancestors(here), here) if other in known)
    return list(order)


def _first(name: str, needs: Needs) -> tuple[str, ...]:
    return (*ancestors(name), *sorted(needs(name)))


def circle(name: str, first: str, needs: Needs) -> tuple[str, ...]:
    """The way from `name` over `first`, which it needs, back to `name`; () when there is none."""
    stack: list[tuple[str, tuple[str, ...]]] = [(first, (name, first))]
    seen = set[str]()
    while stack:
        here, way = stack.pop()
        if here == name:
            return way
        if here not in seen:
            seen.add(here)
            stack += [(other, (*way, other)) for other in _first(here, needs)]
    return ()


def after_dependents(ends: Collection[str], needs: Needs) -> dict[str, tuple[str, ...]]:
    """In the order of their ends: name → those of `ends` that have to be gone before it."""
    order = start_order(ends, needs)
    place = {name: number for number, name in enumerate(order)}
    first: dict[str, set[str]] = {name: set() for name in order}
    for name in order:
        for needed in (*ancestors(name), *needs(name)):
            if place.get(needed, len(order)) < place[name]:
                first[needed].add(name)
    return {name: tuple(sorted(first[name])) for name in reversed(order)}


def end_stages(specs: Iterable[ContainerSpec]) -> list[list[str]]:
    """The containers of a tree that something depends on or that depend on something, in groups that end together,
    one group after the other; [] when nothing of it depends on anything."""
    depends = {spec.name: tuple(each.container for each in spec.depends_on) for spec in specs}
    bound = {name for name, needed in depends.items() if any(other in depends for other in needed)}
    bound |= {other for name in bound for other in depends[name] if other in depends}
    stages: list[list[str]] = []
    stage: dict[str, int] = {}
    for name, first in after_dependents(bound, lambda name: depends.get(name, ())).items():
        stage[name] = 1 + max((stage[other] for other in first), default=-1)
        stages += [[]] * (stage[name] == len(stages))
        stages[stage[name]] = [*stages[stage[name]], name]
    return stages


def completed(life: Life) -> bool:
    """The last run of this generation that ended by itself ended well."""
    fresh = life.starts > 1 or (life.starts == 1 and life.started_at is None)
    return fresh and life.exit is not None and life.exit.success and life.exit.reason not in OURS


def met(condition: str, record: Record | None, *, running: bool, ready: bool) -> bool:
    """Whether a dependency is as far as `condition` asks. What has completed was started."""
    done = record is not None and completed(record.life)
    return {"Started": running or done, "Ready": running and ready, "Completed": done}[condition]
