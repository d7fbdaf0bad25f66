"""The plan: what is to be done so that what runs becomes what is asked for, and why. Pure.

    desired, recorded, observed, now ─▶ actions (each with class and cause) + holds + when to look again

Invariants: nothing destructive is planned on an unknown observation or listing; only names recorded from
this source are pruned; a parent is up before its nested start and outlives them at the end; the plan does
not depend on the order of any map; converged means no action. Docker Compose's reconcile.go is the model:
decisions here, none in the executor.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from reconciler.loop.deciding import Context, Decider
from reconciler.loop.values import Action, Desired, Hold, Observed, Plan, Recorded, Trouble
from reconciler.states import Reason


def plan(
    desired: Desired,
    recorded: Recorded,
    observed: Observed,
    now: float,
    *,
    troubles: Mapping[str, Trouble] | None = None,
    held: Set[str] = frozenset(),
    doomed: Set[str] = frozenset(),
) -> Plan:
    """`recorded` is settled (life.settle). `held`: top-level names that the mass-deletion guard keeps;
    `doomed`: names that someone asked to destroy, whatever is desired."""
    context = Context(desired, recorded, observed, now, troubles or {}, held, doomed)
    decider = Decider(context)
    for name in sorted(context.names(), key=by_tree):
        decider.decide(name)
    ends = [action for action in decider.actions.values() if action.op.ends]
    rest = [action for action in decider.actions.values() if not action.op.ends]
    ends.sort(key=lambda action: by_tree(action.name), reverse=True)
    rest.sort(key=lambda action: by_tree(action.name))
    ordered = tuple(_after_nested(action, ends) for action in ends) + tuple(rest)
    holds = sorted(decider.holds, key=lambda hold: by_tree(hold.name))
    if desired.unknown_reason:
        holds.append(Hold(desired.source, Reason.SOURCE_UNKNOWN, desired.unknown_reason))
    return Plan(ordered, tuple(holds), decider.wake_at)


def by_tree(name: str) -> tuple[str, ...]:
    """Sort key: a parent right before what is nested in it."""
    return tuple(name.split("."))


def _after_nested(action: Action, ends: list[Action]) -> Action:
    below = tuple(sorted(other.name for other in ends if other.name.startswith(action.name + ".")))
    if not below:
        return action
    return Action(action.op, action.name, action.cause, action.change, below, action.digest, action.renew)


def render(plan: Plan) -> str:
    """A line per action and per hold; empty when there is nothing to do."""
    lines = [(_kind(action), action.name, _why(action)) for action in plan.actions]
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
        "holds": [{"name": hold.name, "reason": hold.reason.value, "message": hold.message} for hold in plan.holds],
        "wakeAt": plan.wake_at,
    }
