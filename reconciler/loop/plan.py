"""The plan: what is to be done so that what runs becomes what is asked for, and why. Pure.

    desired, recorded, observed, now ─▶ actions (each with class and cause) + holds + when to look again

Invariants: nothing destructive is planned on an unknown observation or listing; only names recorded from
this source are pruned; a parent is up before its nested start and outlives them at the end, as a dependency does
what depends on it; the plan does not depend on the order of any map; converged means no action. Docker Compose's
reconcile.go is the model: decisions here, none in the executor.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from reconciler.loop import fuse
from reconciler.loop.context import Context
from reconciler.loop.deciding import Decider
from reconciler.loop.ordering import after_dependents, by_tree, start_order
from reconciler.loop.suspending import Suspension, suspended
from reconciler.loop.values import Action, Desired, Hold, Observed, Plan, Recorded, Trouble
from reconciler.states import Reason


def plan(
    desired: Desired,
    recorded: Recorded,
    observed: Observed,
    now: float,
    *,
    troubles: Mapping[str, Trouble] | None = None,
    doomed: Set[str] = frozenset(),
    by_command: Mapping[str, Suspension] | None = None,
    restarts_per_hour: int = fuse.DEFAULT,
) -> Plan:
    """`desired`: with what is kept (keeping.keep); `recorded`: settled (life.settle). `doomed`: names that someone
    asked to destroy, whatever is desired; `by_command`: those that someone suspended."""
    context = Context(desired, recorded, observed, now, troubles or {}, doomed, restarts_per_hour=restarts_per_hour)
    names = context.names()
    context = replace(context, suspended=suspended(names, desired, recorded, by_command or {}))
    decider = Decider(context)
    for name in start_order(names, context.asked):
        decider.decide(name)
    last = after_dependents([name for name, action in decider.actions.items() if action.op.ends], context.applied)
    ends = [replace(decider.actions[name], after=first) for name, first in last.items()]
    rest = [action for action in decider.actions.values() if not action.op.ends]
    holds = [Hold(name, kept.reason, kept.message) for name, kept in desired.kept.items() if kept.held]
    holds = sorted((*decider.holds, *holds), key=lambda hold: by_tree(hold.name))
    if desired.unknown_reason:
        holds.append(Hold(desired.source, Reason.SOURCE_UNKNOWN, desired.unknown_reason))
    return Plan((*ends, *rest), tuple(holds), tuple(decider.waits), decider.wake_at)


def render(plan: Plan) -> str:
    """A line per action, per hold and per start that waits for a dependency; empty when there is nothing to do."""
    lines = [(_kind(action), action.name, _why(action)) for action in plan.actions]
    lines += [("waits", wait.name, f"for {wait.on} to be {wait.condition}") for wait in plan.waits]
    lines += [("held", hold.name, f"{hold.message} ({hold.reason.value})") for hold in plan.holds]
    kinds, names = (max((len(line[column]) for line in lines), default=0) for column in (0, 1))
    return "".join(f"{kind:<{kinds}}  {name:<{names}}  {why}\n" for kind, name, why in lines)


def _why(action: Action) -> str:
    return action.cause + (f"  [after {', '.join(action.after)}]" if action.after else "")


def _kind(action: Action) -> str:
    """The class, and what is done where the class does not say it."""
    change, op = action.change.value, action.op.value
    return change if op == change else f"{change}/{op}"


def as_json(plan: Plan) -> dict[str, Any]:
    """The public form of a plan."""
    return {
        "version": 1,
        "actions": [
            {
                "op": action.op.value,
                "name": action.name,
                "class": action.change.value,
                "cause": action.cause,
                "after": list(action.after),
            }
            for action in plan.actions
        ],
        "waits": [{"name": wait.name, "for": wait.on, "condition": wait.condition} for wait in plan.waits],
        "holds": [{"name": hold.name, "reason": hold.reason.value, "message": hold.message} for hold in plan.holds],
        "wakeAt": plan.wake_at,
    }
