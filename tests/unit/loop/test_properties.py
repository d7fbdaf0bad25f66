"""What holds of every plan, and of every history: random worlds, edits, crashes and killed agents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.loop.context import Context
from reconciler.loop.plan import plan, render
from reconciler.loop.rows import Facts, rows
from reconciler.loop.suspending import Suspension
from reconciler.loop.values import Desired, Life, Observed, Origin, Record, Recorded
from reconciler.runtime.containerizer import ContainerStatus
from reconciler.spec.model import ContainerSpec, Dependency
from reconciler.states import ContainerState
from tests.unit.loop.values import NOW, SOURCE, asked, document, ended, exit_of, record, spec, status
from tests.unit.loop.world import World, play

PURE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No deadline: how long an example takes says more about the machine than about us."""

NAMES = ["a", "a.x", "a.y", "a.y.z", "b", "b.x", "c"]
names = st.sampled_from(NAMES)


@st.composite
def specs(draw: st.DrawFn, name: str) -> ContainerSpec:
    commands: list[tuple[str, ...]] = [("one",), ("two",), ()] if name in ("a", "b") else [("one",), ("two",)]
    policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
    conditions = st.sampled_from(["Started", "Ready", "Completed"])
    depends = [
        Dependency.model_validate({"container": other, "condition": draw(conditions)})
        for other in draw(st.lists(names, max_size=2))
    ]
    return spec(
        name,
        *draw(st.sampled_from(commands)),
        restart_policy=policy,
        depends_on=tuple(depends),
        suspend=draw(st.integers(0, 9)) == 0,
        init_container=bool("." in name and draw(st.integers(0, 3)) == 0),
        max_completion_time=draw(st.sampled_from([None, None, 30.0, 300.0])),
    )


lives = st.sampled_from(
    [
        Life(),
        Life(starts=1, started_at=NOW - 60),
        Life(starts=2, failures=2, exit=exit_of(3), next_try=NOW + 5),
        Life(starts=2, failures=2, exit=exit_of(3), next_try=NOW - 5),
        Life(starts=1, exit=exit_of(0), finished=True),
    ]
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Desired, Recorded, Observed]:
    """Anything desired, recorded and observed, consistent or not."""
    containers, records, seen, unknown = {}, {}, {}, {}
    for name in NAMES:
        parent = name.rpartition(".")[0]
        if draw(st.booleans()) and (not parent or parent in containers):
            containers[name] = asked(draw(specs(name)))
        if draw(st.booleans()):
            one = record(draw(specs(name)), draw(lives), source=draw(st.sampled_from([SOURCE, "/elsewhere"])))
            records[name] = replace(one, deleting=draw(st.integers(0, 9)) == 0)
        kind = draw(st.integers(0, 5))
        if kind == 0:
            unknown[name] = "no answer"
        elif kind < 4:
            seen[name] = draw(statuses(name))
    wanted = Desired(SOURCE, containers, complete=draw(st.booleans()))
    return wanted, Recorded(records), Observed(seen, unknown)


@st.composite
def statuses(draw: st.DrawFn, name: str) -> ContainerStatus:
    one = draw(specs(name))
    state = draw(st.sampled_from([None, *ContainerState]))
    return ended(one, exit_of(3)) if state is None else status(one, state)


def shuffled(items: Iterable[tuple[str, object]]) -> dict[str, object]:
    return dict(reversed(list(items)))


@PURE
@given(worlds())
def test_a_plan_does_not_depend_on_the_order_of_anything(world: tuple[Desired, Recorded, Observed]) -> None:
    want, known, seen = world
    again = plan(
        replace(want, containers=shuffled(want.containers.items())),
        replace(known, records=shuffled(known.records.items())),
        Observed(shuffled(seen.containers.items()), shuffled(seen.unknown.items())),  # type: ignore[arg-type]
        NOW,
    )
    assert render(plan(want, known, seen, NOW)) == render(again)


@PURE
@given(worlds())
def test_nothing_unknown_is_touched(world: tuple[Desired, Recorded, Observed]) -> None:
    touched = {action.name for action in plan(*world, NOW).actions}
    assert not touched & world[2].unknown.keys()


@PURE
@given(worlds())
def test_an_incomplete_listing_destroys_only_what_was_being_removed(world: tuple[Desired, Recorded, Observed]) -> None:
    want, known, seen = world
    leaving = {name for name, one in known.records.items() if one.deleting}
    for action in plan(replace(want, complete=False), known, seen, NOW).actions:
        if action.op == "destroy" and action.name not in leaving:
            assert action.name in want.containers
            assert action.name not in known.records


@PURE
@given(worlds())
def test_names_of_another_source_are_never_pruned(world: tuple[Desired, Recorded, Observed]) -> None:
    want, known, seen = world
    foreign = {name for name, one in known.records.items() if one.origin.source != SOURCE and not one.deleting}
    pruned = {action.name for action in plan(want, known, seen, NOW).actions if action.op == "destroy"}
    assert not pruned & (foreign - want.containers.keys())


@PURE
@given(worlds())
def test_a_nested_container_starts_only_under_a_parent_that_runs_or_starts(
    world: tuple[Desired, Recorded, Observed],
) -> None:
    actions = {action.name: action for action in plan(*world, NOW).actions}
    for name, action in actions.items():
        parent = name.rpartition(".")[0]
        if action.op.starts and parent:
            starting = parent in actions and actions[parent].op.starts
            assert starting or world[2].containers[parent].running
            assert not starting or action.after[0] == parent


@PURE
@given(worlds())
def test_whatever_waits_for_whom_everything_can_begin_and_has_a_row(world: tuple[Desired, Recorded, Observed]) -> None:
    """Circles and all: no two actions wait for each other."""
    found = plan(*world, NOW)
    waiting = {action.name: set(action.after) for action in found.actions}
    while free := {name for name, first in waiting.items() if not first & waiting.keys()}:
        waiting = {name: first for name, first in waiting.items() if name not in free}
    assert not waiting
    facts = Facts(*world, found, {}, {}, lambda name: Path("/sandboxes") / name)
    assert rows(facts).keys() >= {wait.name for wait in found.waits}


@PURE
@given(worlds())
def test_a_start_has_what_it_depends_on_or_comes_after_it(world: tuple[Desired, Recorded, Observed]) -> None:
    want, known, seen = world
    actions = {action.name: action for action in plan(*world, NOW).actions}
    context = Context(want, known, seen, NOW)
    for name, action in actions.items():
        if action.op.starts:
            for dependency in want.containers[name].spec.depends_on:
                assert dependency.container in action.after or context.met(dependency)


@PURE
@given(st.sets(names), st.data())
def test_what_is_as_desired_needs_nothing(chosen: set[str], data: st.DataObject) -> None:
    tree = sorted(name for name in chosen if all(p in chosen for p in _parents(name)))
    every = [data.draw(specs(name)) for name in tree]
    every = [one.model_copy(update={"suspend": False, "max_completion_time": None}) for one in every]
    kept = [one for one in every if not one.holder or any(other.parent == one.name for other in every)]
    kept = [one for one in kept if all(p in {k.name for k in kept} for p in _parents(one.name))]
    want = Desired(SOURCE, {one.name: asked(one) for one in kept})
    records = Recorded({one.name: record(one) for one in kept})
    found = plan(want, records, Observed({one.name: status(one) for one in kept}), NOW)
    assert render(found) == ""


def _parents(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[:end]) for end in range(1, len(labels))]


# -- histories ------------------------------------------------------------------------------------------

POLICIES = ["Always", "OnFailure", "Never"]


def pod(name: str, seed: int) -> str:
    """One of several documents for the same name: holder or not, with one, two or no nested containers, perhaps with an
    init container, suspended, or depending on what the other file defines."""
    nested = "".join(
        f"  - {{name: n{number}, command: [n, v{seed // 4 % 2}], restartPolicy: {POLICIES[seed // 8 % 3]}}}\n"
        for number in range(seed % 3)
    )
    main = f"command: [main, v{seed // 2 % 2}]\n" if seed % 2 or not nested else ""
    limits = f"resources: {{limits: {{pids: {10 + seed % 2}}}}}\n"
    limits += f"initContainers: [{{name: i, command: [i, v{seed // 2 % 2}]}}]\n" if nested and seed % 7 == 0 else ""
    limits += "suspend: true\n" if seed % 11 == 0 else ""
    limits += f"dependsOn: [{{container: {'ba'['ab'.index(name)]}}}]\n" if seed % 5 == 0 else ""
    limits += "maxCompletionTime: 400s\n" if seed % 13 == 0 else ""
    return document(name, main + limits + (f"containers:\n{nested}" if nested else ""), f", labels: {{s: v{seed}}}")


EVENTS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from("ab"), st.integers(0, 23)),
    st.tuples(st.just("break"), st.sampled_from("ab"), st.just(0)),
    st.tuples(st.just("delete"), st.sampled_from("ab"), st.just(0)),
    st.tuples(st.just("crash"), st.sampled_from(["a", "b", "a.n0", "a.n1", "b.n0", "a.i"]), st.sampled_from([0, 3])),
    st.tuples(st.just("suspend"), st.sampled_from(["a", "a.n0", "b"]), st.sampled_from([0, 1])),
    st.tuples(st.just("slow"), st.sampled_from(["a", "a.n0", "b"]), st.sampled_from([0, 1, 5])),
    st.tuples(st.just("agent"), st.just(""), st.just(0)),
    st.tuples(st.just("pass"), st.just(""), st.sampled_from([1, 30, 3000])),
)


async def live(world: World, history: list[tuple[str, str, int]]) -> None:
    agent = await world.agent()
    for event, name, value in history:
        if event == "write":
            world.files.texts[f"{name}.yaml"] = pod(name, value)
        elif event == "break":
            world.files.texts[f"{name}.yaml"] = document(name, "comand: [x]")
        elif event == "delete":
            world.files.texts.pop(f"{name}.yaml", None)
        elif event == "crash" and name in world.containers.running():
            world.containers.end(name, value)
        elif event == "slow":
            world.containers.of(name).launch_seconds = world.containers.of(name).destroy_seconds = value
        elif event == "suspend":
            order = (
                agent.reconciler.suspend([name], Suspension("me", 0.0), 1)
                if value
                else agent.reconciler.resume([name], 1)
            )
            await order
        elif event == "agent":
            await agent.kill()
            agent = await world.agent()
        agent.reconciler.wake()
        await asyncio.sleep(value / 100 if event == "pass" else 0.0)
    await asyncio.sleep(1000)  # of virtual time: every backoff and slow stop is over
    agent.stop.set()
    await asyncio.sleep(10)
    found = await agent.reconciler.one_pass()
    assert not found.actions and not found.holds, render(found)
    await agent.reconciler.close()


@settings(PURE, max_examples=25)
@given(st.lists(EVENTS, max_size=12))
def test_every_history_ends_with_nothing_left_to_do(history: list[tuple[str, str, int]]) -> None:
    world = World()
    play(live(world, history))
    assert world.containers.faults == []
    files = {path.removesuffix(".yaml") for path in world.files.texts}
    assert {name.partition(".")[0] for name in world.containers.known} <= files
    for name in world.containers.running():
        kept: Record = world.records.kept[name]
        assert kept.origin == Origin(SOURCE, f"{name.partition('.')[0]}.yaml", kept.origin.line)
