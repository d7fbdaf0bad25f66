"""The decision for one name, given what was decided for its parent: the heart of the plan. Pure.

    not wanted ──▶ destroy, or hold                      wanted, no record ──▶ create (adopt what runs already)
    wanted, changed ──▶ restart │ update │ record        wanted, as recorded ──▶ start again, stop, or nothing
    suspended ──▶ suspend, then record what changes

Invariants: names are decided in the order of their starts, so the decision for a parent or a dependency is there
when it is needed; a nested container starts only under a parent that runs or is about to, and after what it
depends on; what runs is not ended because a dependency is not as far as it should be.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from reconciler.loop.context import Context, changes_of
from reconciler.loop.digests import launch_digest, outdated
from reconciler.loop.initialising import initialises, reruns
from reconciler.loop.keeping import why_gone
from reconciler.loop.life import deadline
from reconciler.loop.ordering import circle
from reconciler.loop.texts import ending, place, span
from reconciler.loop.values import Action, DesiredContainer, Hold, Op, Record, Wait
from reconciler.runtime.containerizer import ContainerStatus
from reconciler.spec.changes import Change, in_place
from reconciler.states import ChangeClass, ContainerState, Reason


class Decider:
    """Collects the decisions of one plan."""

    def __init__(self, context: Context) -> None:
        self.actions: dict[str, Action] = {}
        self.holds: list[Hold] = []
        self.waits: list[Wait] = []
        self.wake_at: float | None = None
        self._context = context
        self._nested: dict[str, list[str]] = defaultdict(list)
        for name in context.desired.containers.keys() | context.desired.refusals.keys():
            if "." in name:
                self._nested[name.rpartition(".")[0]].append(name)

    def decide(self, name: str) -> None:
        context = self._context
        record, want = context.recorded.records.get(name), context.desired.containers.get(name)
        seen = context.observed.containers.get(name)
        if context.is_doomed(name):
            if context.is_there(name):
                self._destroy(name, "its destruction was asked for")
        elif name in context.recorded.unreadable:
            self._hold(name, Reason.RECORD_UNREADABLE, context.recorded.unreadable[name])
        elif name in context.observed.unknown:
            self._hold(name, Reason.STATE_UNKNOWN, context.observed.unknown[name])
        elif record is not None and record.deleting:
            self._destroy(name, "its removal goes on")
        elif name in context.suspended and (want is not None or context.alive(name)):
            self._suspended(name, want, record)
        elif want is None:
            self._unwanted(name, record)
        elif record is None:
            self._unrecorded(name, want, seen)
        else:
            self._both(want, record, seen)

    # -- what nobody wants --------------------------------------------------------------------------

    def _unwanted(self, name: str, record: Record | None) -> None:
        desired = self._context.desired
        if record is None:
            if desired.complete and name not in desired.refusals:
                self._destroy(name, "it runs without a record, and no file asks for it")
            else:
                self._hold(name, Reason.SOURCE_UNKNOWN, "it runs without a record, and a file may yet ask for it")
            return
        if record.origin.source != desired.source or name in desired.held_names:
            return
        if not desired.complete:
            why = desired.unknown_reason or "the source is still changing"
            self._hold(name, Reason.SOURCE_UNKNOWN, why)
        else:
            self._destroy(name, why_gone(record, desired))

    # -- what is to stand still ---------------------------------------------------------------------

    def _suspended(self, name: str, want: DesiredContainer | None, record: Record | None) -> None:
        """Ended, then recorded as it is asked for, so that it starts as that when it is resumed."""
        if self._context.alive(name):
            self._act(Op.SUSPEND, None, f"it is {self._context.suspended[name]}", ChangeClass.DESTROY, name=name)
        elif want is not None and record is not None:
            if record.digest != want.digest:
                changes = changes_of(record, want)
                renew = any(change.change is not ChangeClass.LIVE for change in changes)
                self._act(Op.RECORD, want, _cause(changes), ChangeClass.LIVE, renew=renew)
            else:
                self._moved(want, record)

    # -- what is wanted -----------------------------------------------------------------------------

    def _unrecorded(self, name: str, want: DesiredContainer, seen: ContainerStatus | None) -> None:
        if seen is None:
            self._start(Op.CREATE, want, f"new in {place(want.origin)}", renew=True)
        elif seen.running and seen.digest == launch_digest(want.spec, want.digest):
            self._act(Op.ADOPT, want, f"it runs as {place(want.origin)} asks, without a record", ChangeClass.ADOPT)
        else:
            self._destroy(name, "it runs without a record, and not as asked for")

    def _both(self, want: DesiredContainer, record: Record, seen: ContainerStatus | None) -> None:
        name, alive = record.name, self._context.alive(record.name)
        changes = changes_of(record, want)
        replaced = [change for change in changes if change.change is not ChangeClass.LIVE]
        above = self._parent_action(name)
        if above is not None and above.op.starts:
            self._with_parent(want, record, replaced, above)
        elif alive and not self._parent_up(name):
            self._stop_below(name)
        elif replaced and want.spec.init_container and reruns(self._context, self._nested[want.spec.parent or ""]):
            return  # it runs anew with its parent, which waits for something itself
        elif replaced:
            self._start(Op.RESTART, want, _joined(replaced), renew=True)
        elif alive and (cause := reruns(self._context, self._nested[name])) is not None:
            self._start(Op.RESTART, want, cause, renew=True)
        elif record.digest != want.digest:
            self._live(want, changes, alive)
        elif alive and seen is not None and not self._left_by_a_failed_launch(record, seen):
            self._as_recorded_alive(want, record, seen)
        else:
            self._as_recorded_down(want, record)

    def _with_parent(self, want: DesiredContainer, record: Record, replaced: list[Change], above: Action) -> None:
        """The parent starts anew, and its tree with it; what is done stays done unless the parent is replaced, or it is
        an init container."""
        if replaced:
            self._start(Op.RESTART, want, _joined(replaced), renew=True)
        elif want.spec.class_ == "debug" and record.life.starts > 0:
            return  # it ends with the parent's old run, and was started once already
        elif above.renew:
            self._start(Op.RESTART, want, f"its parent {above.name} restarts", renew=True)
        elif not record.life.finished or initialises(self._context.desired, want.spec):
            began = record.life.starts > 0
            self._start(Op.RESTART if began else Op.CREATE, want, f"its parent {above.name} restarts")

    def _live(self, want: DesiredContainer, changes: tuple[Change, ...], alive: bool) -> None:
        told = alive and any(in_place(change.field) for change in changes)
        self._act(Op.UPDATE if told else Op.RECORD, want, _cause(changes), ChangeClass.LIVE)

    def _as_recorded_alive(self, want: DesiredContainer, record: Record, seen: ContainerStatus) -> None:
        due = deadline(record)
        if due is not None and due <= self._context.now:
            cause = "it has run for longer than its maxCompletionTime"
            self._act(Op.EXPIRE, None, cause, ChangeClass.DESTROY, name=record.name)
            return
        if due is not None:
            self._wake(due)
        health = self._context.observed.health.get(record.name)
        if health is not None and health.failed:
            self._act(Op.FAIL, None, health.failed, ChangeClass.RESTART, name=record.name)
            return
        if record.spec.holder and self._to_be_held(record.name) is None:
            self._act(Op.COMPLETE, None, "nothing nested in it will run again", ChangeClass.DESTROY, name=record.name)
        elif seen.state is ContainerState.DESTROYING:
            self._start(Op.RESTART, want, "it was being ended when it was left alone")
        elif not seen.running:
            stage = seen.state.value if seen.state else "its beginning"
            self._start(Op.RESTART, want, f"its launch stopped at {stage}")
        elif outdated(seen.digest, record.spec, record.digest):
            self._start(Op.RESTART, want, "it runs an older version")
        elif drift := self._context.observed.drift.get(record.name):
            self._act(Op.UPDATE, want, drift, ChangeClass.LIVE)
        else:
            self._moved(want, record)

    def _left_by_a_failed_launch(self, record: Record, seen: ContainerStatus) -> bool:
        """What is there is no run, and its next one has to wait."""
        life = record.life
        waits = life.finished or self._context.waits_until(life) is not None
        return waits and life.started_at is None and not seen.running

    def _as_recorded_down(self, want: DesiredContainer, record: Record) -> None:
        life = record.life
        if life.finished:
            revived = record.spec.holder and life.exit is not None and life.exit.success
            busy_below = None if not revived else self._to_be_held(record.name)
            if busy_below is None:
                self._moved(want, record)
            else:
                self._start(Op.RESTART, want, f"{busy_below}, nested in it, will run")
        elif (next_try := self._context.waits_until(life)) is not None:
            self._wake(next_try)
            self._moved(want, record)
        elif life.exit is None:
            self._start(Op.CREATE, want, "not running: never started")
        else:
            ago = span(self._context.now - life.exit.at)
            cause = f"not running: {ending(life.exit)}, {ago} ago"
            self._start(Op.RESTART, want, f"{cause}, attempt {life.starts + 1}" if life.failures else cause)

    def _moved(self, want: DesiredContainer, record: Record) -> None:
        if want.origin.file != record.origin.file:
            self._act(Op.RECORD, want, f"moved from {record.origin.file} to {want.origin.file}", ChangeClass.LIVE)

    # -- parents and nested -------------------------------------------------------------------------

    def _parent_action(self, name: str) -> Action | None:
        return self.actions.get(name.rpartition(".")[0])

    def _parent_up(self, name: str) -> bool:
        """A parent that runs and will go on, or one we know nothing of."""
        parent = name.rpartition(".")[0]
        if not parent or parent in self._context.observed.unknown:
            return True
        action = self.actions.get(parent)
        return self._context.running(parent) and (action is None or not action.op.ends)

    def _stop_below(self, name: str) -> None:
        """Alive under a parent that is not: what the parent's end did not take with it. The action that
        ends the parent takes this with it."""
        above = self._parent_action(name)
        if above is None or not above.op.ends:
            parent = name.rpartition(".")[0]
            self._act(Op.STOP, None, f"its parent {parent} has ended", ChangeClass.DESTROY, name=name)

    def _to_be_held(self, name: str) -> str | None:
        """A container directly below that runs, will run, or may run once its spec is put right."""
        context = self._context
        for nested in sorted(self._nested[name]):
            record, want = context.recorded.records.get(nested), context.desired.containers.get(nested)
            if record is None or want is None or nested in context.desired.refusals or record.deleting:
                return nested
            if not record.life.finished or context.alive(nested) or nested in context.observed.unknown:
                return nested
            if record.digest != want.digest and not _live_only(record, want):
                return nested
        return None

    # -- results ------------------------------------------------------------------------------------

    def _start(self, op: Op, want: DesiredContainer, cause: str, *, renew: bool = False) -> None:
        above, parent = self._parent_action(want.spec.name), want.spec.parent
        starting = above is not None and above.op.starts
        if parent is not None and not starting:
            unknown = parent in self._context.observed.unknown
            if unknown or not self._parent_up(want.spec.name):
                return
        first = self._dependencies(want)
        if first is None:
            return
        change = ChangeClass.CREATE if op is Op.CREATE else ChangeClass.RESTART
        above_first = (parent,) if parent is not None and starting else ()
        after = tuple(dict.fromkeys(above_first + first))
        action = Action(op, want.spec.name, cause, change, after, want.digest, renew)
        self._unless_troubled(action)

    def _dependencies(self, want: DesiredContainer) -> tuple[str, ...] | None:
        """Those that are about to start. None: one is not as far as it must be, and will not get there by this plan."""
        context, name, first = self._context, want.spec.name, []
        for dependency in want.spec.depends_on:
            other = dependency.container
            action = self.actions.get(other)
            if action is not None and action.op.starts:
                first.append(other)
            elif not context.met(dependency) or (action is not None and action.op.ends):
                way = circle(name, other, context.asked)
                self.waits.append(Wait(name, other, dependency.condition, way))
                return None
        return tuple(first)

    def _act(
        self,
        op: Op,
        want: DesiredContainer | None,
        cause: str,
        change: ChangeClass,
        *,
        name: str = "",
        renew: bool = False,
    ) -> None:
        action = Action(op, want.spec.name if want else name, cause, change, (), want.digest if want else "", renew)
        self._unless_troubled(action)

    def _destroy(self, name: str, cause: str) -> None:
        self._act(Op.DESTROY, None, cause, ChangeClass.DESTROY, name=name)

    def _unless_troubled(self, action: Action) -> None:
        """What failed is not tried again before its time; a new goal is tried at once."""
        trouble = self._context.troubles.get(action.name)
        if trouble is not None and trouble.goal == action.goal:
            if trouble.terminal:
                return
            if trouble.next_try is not None and trouble.next_try > self._context.now:
                self._wake(trouble.next_try)
                return
            action = replace(action, cause=f"{action.cause} (attempt {trouble.attempts + 1})")
        self.actions[action.name] = action

    def _hold(self, name: str, reason: Reason, message: str) -> None:
        self.holds.append(Hold(name, reason, message))

    def _wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def _live_only(record: Record, want: DesiredContainer) -> bool:
    return all(change.change is ChangeClass.LIVE for change in changes_of(record, want))


def _cause(changes: tuple[Change, ...]) -> str:
    return _joined(changes) if changes else "the same in a newer form of the spec"


def _joined(changes: tuple[Change, ...] | list[Change]) -> str:
    return ", ".join(str(change) for change in changes)
