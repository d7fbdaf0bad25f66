"""Who waits for whom: dependencies, init containers, and the order in which things end."""

from __future__ import annotations

import pytest

from reconciler.loop.ordering import completed, end_stages, start_order
from reconciler.loop.plan import plan, render
from reconciler.loop.values import Desired, Life, Observed, Recorded
from reconciler.runtime.containerizer import Termination
from reconciler.spec.model import ContainerSpec, Dependency
from reconciler.states import Reason
from tests.unit.loop.values import (
    NOW,
    asked,
    desire_files,
    desired,
    document,
    ended,
    exit_of,
    observed,
    record,
    recorded,
    spec,
    status,
)


def needing(name: str, *others: str, condition: str = "Started", **fields: object) -> ContainerSpec:
    depends = tuple(Dependency.model_validate({"container": other, "condition": condition}) for other in others)
    return spec(name, "x", depends_on=depends, **fields)


def text(want: Desired, known: Recorded, seen: Observed) -> str:
    return render(plan(want, known, seen, NOW))


DB, WEB = spec("db", "x"), needing("app", "db", condition="Ready")
DONE = Life(starts=1, exit=exit_of(0), finished=True)


def test_a_dependency_starts_first_and_says_so() -> None:
    assert text(desired(WEB, DB), recorded(), observed()) == (
        "create  db   new in web.yaml:1\ncreate  app  new in web.yaml:1  [after db]\n"
    )


def test_what_runs_is_left_alone_while_its_dependency_restarts() -> None:
    changed = spec("db", "y")
    records = recorded(record(DB), record(WEB))
    found = text(desired(WEB, changed), records, observed(status(DB), status(WEB)))
    assert found == "restart  db  command changed: [x] → [y]\n"


def test_a_new_version_waits_and_the_old_one_runs_on() -> None:
    changed = WEB.model_copy(update={"command": ("y",)})
    waiting = Life(starts=3, failures=3, exit=exit_of(3), next_try=NOW + 4)
    records = recorded(record(DB, waiting), record(WEB))
    found = text(desired(changed, DB), records, observed(ended(DB, exit_of(3)), status(WEB)))
    assert found == "waits  app  for db to be Ready\n"


def test_dependents_end_before_what_they_depend_on() -> None:
    """Whatever the names, and across trees."""
    shop, shop_db, app = spec("shop"), spec("shop.db", "x"), needing("app", "shop.db")
    records, seen = recorded(*map(record, (shop, shop_db, app))), observed(*map(status, (shop, shop_db, app)))
    assert text(desired(), records, seen) == (
        "destroy  app      web.yaml is gone\n"
        "destroy  shop.db  web.yaml is gone  [after app]\n"
        "destroy  shop     web.yaml is gone  [after shop.db]\n"
    )


@pytest.mark.parametrize(
    ("life", "holds"),
    [
        (Life(), False),
        (Life(exit=exit_of(0)), False),  # of the generation before
        (Life(starts=1, started_at=NOW, exit=exit_of(0)), False),
        (Life(starts=1, exit=exit_of(0), finished=True), True),
        (Life(starts=1, exit=exit_of(1), finished=True), False),
        (Life(starts=2, started_at=NOW, exit=exit_of(0)), True),
        (Life(starts=1, exit=Termination(0, None, Reason.DESTROYED, NOW)), False),
        (Life(starts=1, exit=Termination(0, None, Reason.DEADLINE_EXCEEDED, NOW)), False),
    ],
)
def test_completed_is_having_ended_well_in_this_generation(life: Life, holds: bool) -> None:
    assert completed(life) is holds


def test_a_circle_between_files_starts_nothing_and_ends_all_the_same() -> None:
    a, b = needing("a", "b"), needing("b", "a")
    found = plan(desired(a, b), recorded(), observed(), NOW)
    assert (found.actions, {wait.name: wait.circle for wait in found.waits}) == (
        (),
        {"a": ("a", "b", "a"), "b": ("b", "a", "b")},
    )
    ends = plan(desired(), recorded(record(a), record(b)), observed(status(a), status(b)), NOW).actions
    assert sorted(len(action.after) for action in ends) == [0, 1]


def test_a_parent_comes_first_whatever_depends_on_what() -> None:
    needs = {"shop": ("a",), "a": ("shop.web",)}
    assert start_order(["shop.web", "shop", "a"], lambda name: needs.get(name, ())) == ["shop", "shop.web", "a"]


def test_a_tree_that_ends_at_once_ends_in_stages() -> None:
    """Only what depends on something of the tree, or is depended on, is told apart."""
    tree = [spec("p.db", "x"), needing("p.api", "p.db"), needing("p.web", "p.api"), needing("p.log", "other")]
    assert end_stages(tree) == [["p.web"], ["p.api"], ["p.db"]]
    assert end_stages([spec("p.db", "x"), spec("p.log", "x")]) == []


# -- init containers -------------------------------------------------------------------------------------

POD = document(
    "pod", "initContainers: [{name: one, shell: one}, {name: two, shell: TWO}]\ncontainers: [{name: web, shell: x}]"
)


def pod(two: str = "two") -> Desired:
    return desire_files({"pod.yaml": POD.replace("TWO", two)})


def lives(want: Desired, **known: Life) -> Recorded:
    return recorded(
        *(
            record(one.spec, known.get(one.spec.label), file="pod.yaml", source="/specs")
            for one in want.containers.values()
            if one.spec.label in known or one.spec.label == "pod"
        )
    )


def names(want: Desired, known: Recorded, *running: str) -> list[str]:
    seen = observed(*(status(known.records[name].spec) for name in ("pod", *running)))
    return [action.name for action in plan(want, known, seen, NOW).actions]


def test_init_containers_run_one_after_the_other_and_the_rest_waits() -> None:
    want = pod()
    assert render(plan(want, recorded(), observed(), NOW)) == (
        "create  pod      new in pod.yaml:1\n"
        "create  pod.one  new in pod.yaml:5  [after pod]\n"
        "create  pod.two  new in pod.yaml:5  [after pod, pod.one]\n"
        "create  pod.web  new in pod.yaml:6  [after pod, pod.two]\n"
    )
    assert names(want, lives(want, one=DONE)) == ["pod.two", "pod.web"]
    assert names(want, lives(want, one=DONE, two=DONE)) == ["pod.web"]


def test_an_init_container_that_failed_is_tried_again_before_anything_else() -> None:
    want = pod()
    waiting = Life(starts=1, failures=1, exit=exit_of(1), next_try=NOW + 1)
    found = plan(want, lives(want, one=waiting), observed(status(want.containers["pod"].spec)), NOW)
    assert (found.actions, found.wake_at) == ((), NOW + 1)
    assert [(wait.name, wait.on) for wait in found.waits] == [("pod.two", "pod.one"), ("pod.web", "pod.two")]


def test_a_changed_init_container_restarts_the_pod_only_when_something_came_after_it() -> None:
    before, after = pod(), pod("changed")
    known = lives(before, one=DONE, two=DONE, web=Life(starts=1, started_at=NOW - 9))
    found = plan(after, known, observed(*(status(known.records[name].spec) for name in ("pod", "pod.web"))), NOW)
    assert [(action.name, action.renew) for action in found.actions] == [
        ("pod", True),
        ("pod.one", True),
        ("pod.two", True),
        ("pod.web", True),
    ]
    assert found.actions[0].cause == "its init container two runs anew: shell changed: two → changed"
    assert names(after, lives(before, one=DONE, two=DONE)) == ["pod.two", "pod.web"]


def test_init_containers_run_again_when_the_pod_restarts() -> None:
    want = pod()
    crashed = Life(starts=1, failures=1, exit=exit_of(signal=9), next_try=NOW)
    known = lives(want, pod=crashed, one=DONE, two=DONE, web=Life(starts=1, exit=exit_of(signal=9)))
    found = plan(want, known, observed(), NOW)
    assert [action.name for action in found.actions] == ["pod", "pod.one", "pod.two", "pod.web"]
    assert not any(action.renew for action in found.actions)


def test_a_name_is_looked_up_from_the_inside_out() -> None:
    body = (
        "containers:\n- {name: db, shell: x}\n- name: api\n  containers:\n"
        "  - {name: web, shell: x, dependsOn: [{container: db}, {container: cache}, {container: far.off}]}\n"
        "  - {name: cache, shell: x}\n"
    )
    want = desire_files({"shop.yaml": document("shop", body)}).containers["shop.api.web"].spec
    assert [each.container for each in want.depends_on] == ["shop.db", "shop.api.cache", "far.off"]


def test_what_is_asked_for_is_what_it_waits_for() -> None:
    """A dependency taken out of the file is waited for no longer."""
    freed = WEB.model_copy(update={"depends_on": ()})
    records = recorded(record(WEB, Life()))
    assert [action.name for action in plan(desired(freed), records, observed(), NOW).actions] == ["app"]
    assert asked(freed).digest != records.records["app"].digest
