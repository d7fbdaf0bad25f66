"""Debug containers in the loop: documents of their own, nested in what they look at, started once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.loop import life, rows
from reconciler.loop.operations import _renewed_with_parent
from reconciler.loop.plan import plan, render
from reconciler.loop.values import Life
from reconciler.runtime.containerizer import Termination
from reconciler.spec.model import ContainerSpec
from reconciler.states import Reason, Status
from tests.unit.loop.values import (
    NOW,
    desire_files,
    desired,
    document,
    exit_of,
    observed,
    record,
    recorded,
    spec,
    status,
)

SHOP = spec("shop", "sleep")


def look(**fields: Any) -> ContainerSpec:
    kind = {"class_": "debug", "debug_parent": "shop", "restart_policy": "Never"}
    return spec("shop.look", "sh", **(kind | fields))


LOOK = look()
FILE = "class: debug\nparent: shop\ncommand: [sh]"


def text(*args: Any, **fields: Any) -> str:
    return render(plan(*args, NOW, **fields))


def test_its_document_is_named_for_the_place_it_has() -> None:
    found = desire_files({"look.yaml": document("look", FILE)})
    assert found.containers["shop.look"].spec == LOOK


def test_it_starts_once_its_parent_runs() -> None:
    both, known = desired(SHOP, LOOK), recorded(record(SHOP), record(LOOK, Life(), file="look.yaml"))
    assert text(both, known, observed()).splitlines()[1].startswith("create")
    assert text(both, known, observed(status(SHOP))).startswith("create")
    assert text(desired(LOOK), recorded(), observed()) == ""


def test_it_is_not_started_again_whatever_ended_it() -> None:
    begun = Life(starts=1, started_at=NOW - 60)
    endings = [exit_of(0), exit_of(1), Termination(None, 9, Reason.PARENT_ENDED, NOW)]
    for ending in endings:
        after = life.ended(begun, LOOK, ending, NOW)
        assert after.finished and after.next_try is None and after.exit == ending
    with_parent = life.ended_with_parent(begun, LOOK, None, NOW)
    assert with_parent.finished


def test_its_parents_restart_ends_it_and_does_not_bring_it_back() -> None:
    changed = spec("shop", "other")
    found = text(desired(changed, LOOK), recorded(record(SHOP), record(LOOK)), observed(status(SHOP), status(LOOK)))
    assert "shop.look" not in found and found.startswith("restart")


def test_a_new_generation_of_its_parent_is_none_of_its_own() -> None:
    begun = record(LOOK, Life(starts=1, started_at=NOW - 60))
    renewed = _renewed_with_parent(begun, NOW)
    assert renewed.generation == begun.generation and renewed.life.finished
    assert renewed.life.exit is not None and renewed.life.exit.reason is Reason.PARENT_ENDED
    for other in (record(LOOK, Life()), record(LOOK, Life(starts=1, finished=True, exit=exit_of(1)))):
        assert _renewed_with_parent(other, NOW) == other


def test_one_of_a_parent_that_no_file_defines_is_blocked_and_says_so() -> None:
    asked = desired(LOOK)
    facts = rows.Facts(asked, recorded(), observed(), plan(asked, recorded(), observed(), NOW), {}, {}, Path)
    row = rows.rows(facts)["shop.look"]
    assert (row.status, row.message) == (Status.BLOCKED, "its parent shop does not exist: no file defines it")


def test_a_changed_spec_of_its_own_runs_it_anew() -> None:
    changed = LOOK.model_copy(update={"command": ("ps",)})
    done = record(LOOK, Life(starts=1, finished=True, exit=exit_of(0)))
    found = text(desired(SHOP, changed), recorded(record(SHOP), done), observed(status(SHOP)))
    assert found.startswith("restart  shop.look")


def test_a_bad_file_of_its_own_keeps_it_and_one_of_its_parent_concerns_only_that() -> None:
    known = (record(SHOP, file="shop.yaml"), record(LOOK, file="look.yaml"))
    bad = {"shop.yaml": document("shop", "command: [sleep]"), "look.yaml": document("look", FILE + "\ncomand: [x]")}
    found = desire_files(bad, *known)
    assert found.containers["shop.look"].spec == LOOK and "shop" not in found.refusals
    bad = {"shop.yaml": document("shop", "comand: [x]"), "look.yaml": document("look", FILE)}
    found = desire_files(bad, *known)
    assert sorted(found.containers) == ["shop", "shop.look"] and "shop.look" not in found.refusals


def test_its_file_gone_destroys_it_although_its_parents_is_broken() -> None:
    known = (record(SHOP, file="shop.yaml"), record(LOOK, file="look.yaml"))
    found = desire_files({"shop.yaml": document("shop", "comand: [x]")}, *known)
    assert sorted(found.containers) == ["shop"]


def test_what_ended_with_its_parent_is_completed_and_what_failed_failed() -> None:
    for reason, expected in ((Reason.PARENT_ENDED, Status.COMPLETED), (Reason.SIGNALED, Status.FAILED)):
        ended = replace(exit_of(signal=9), reason=reason)
        done = record(LOOK, Life(starts=1, finished=True, exit=ended))
        assert rows._finished(done).status is expected
