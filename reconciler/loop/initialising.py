"""Init containers: they run to their ends, in their order, with every start of their parent, before the rest. Pure.

That they come first needs no code here: each container of the tree depends on the init container before it, condition
Completed (`spec.document`). What is left: when they run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.loop.context import Context, changes_of
from reconciler.loop.values import Desired, DesiredContainer
from reconciler.spec.model import ContainerSpec
from reconciler.states import ChangeClass


def initialises(desired: Desired, spec: ContainerSpec) -> bool:
    """It is an init container, or nested in one: it runs with every start of the parent."""
    above = desired.containers.get(spec.parent or "")
    return spec.init_container or (above is not None and initialises(desired, above.spec))


def reruns(context: Context, nested: Iterable[str]) -> str | None:
    """Why the tree of a parent has to start anew: an init container is new or changed, and something that comes after
    it has been started already. nested: what is directly below the parent."""
    asked = context.desired.containers
    wanted = {name: asked[name] for name in sorted(nested) if name in asked}
    for name, want in wanted.items():
        how = _changed(context, want) if want.spec.init_container else ""
        if how and any(_begun(context, other) for other in _after(name, wanted)):
            return f"its init container {want.spec.label} runs anew: {how}"
    return None


def _changed(context: Context, want: DesiredContainer) -> str:
    record = context.recorded.records.get(want.spec.name)
    if record is None:
        return "it is new"
    return ", ".join(str(change) for change in changes_of(record, want) if change.change is not ChangeClass.LIVE)


def _begun(context: Context, name: str) -> bool:
    """In this generation."""
    record = context.recorded.records.get(name)
    return record is not None and record.life.starts > 0


def _after(name: str, siblings: Mapping[str, DesiredContainer]) -> set[str]:
    """Those that wait for it, or for one that does."""
    found = {name}
    while (
        more := {other for other, one in siblings.items() if found & {each.container for each in one.spec.depends_on}}
        - found
    ):
        found |= more
    return found - {name}
