"""What goes on although its file is gone: `prune`, and who may let it go."""

from __future__ import annotations

import pytest

from reconciler.loop.keeping import dropped, keep
from reconciler.loop.plan import plan
from reconciler.loop.values import Life, Origin, Refusal
from reconciler.states import Reason, Status
from tests.unit.loop.values import NOW, SOURCE, desired, ended, exit_of, observed, record, recorded, spec, status


@pytest.mark.parametrize(
    ("prune", "approved", "kept", "held"),
    [
        (None, (), False, False),
        ("auto", (), False, False),
        ("confirm", (), True, True),
        ("confirm", ("web",), False, False),
        ("never", (), True, False),
        ("never", ("web",), True, False),
    ],
)
def test_prune_says_what_becomes_of_it(prune: str | None, approved: tuple[str, ...], kept: bool, held: bool) -> None:
    web = spec("web", "x", prune=prune)
    known = recorded(record(web))
    want, _ = keep(desired(), known, set(approved))
    found = plan(want, known, observed(status(web)), NOW)
    assert [action.op for action in found.actions] == ([] if kept else ["destroy"])
    assert [hold.reason for hold in found.holds] == ([Reason.PRUNE_UNCONFIRMED] if held else [])


def test_what_is_kept_is_started_again_as_before() -> None:
    web = spec("web", "x", prune="never")
    known = recorded(record(web, Life(starts=1, failures=1, exit=exit_of(1), next_try=NOW)))
    want, _ = keep(desired(), known)
    assert [action.op for action in plan(want, known, observed(ended(web, exit_of(1))), NOW).actions] == ["restart"]


def test_the_topmost_dropped_container_decides_for_its_tree() -> None:
    pod, web = spec("pod"), spec("pod.web", "x", prune="never")
    known = recorded(record(pod), record(web))
    assert dropped(desired(), known) == {"pod": "pod", "pod.web": "pod"}
    assert keep(desired(), known)[0].kept == {}
    assert keep(desired(pod), known)[0].kept.keys() == {"pod.web"}


def test_declaring_auto_approves_a_mass_deletion_ahead() -> None:
    plain = [spec(f"web{number}", "x") for number in range(5)]
    declared = [spec(f"job{number}", "x", prune="auto") for number in range(5)]
    want, held = keep(desired(), recorded(*map(record, (*plain, *declared))))
    assert held == want.kept.keys() == {one.name for one in plain}


def test_what_is_for_another_node_now_goes_with_that_cause() -> None:
    web = spec("web", "x")
    why = Refusal("web", Status.IGNORED, Reason.NODE_SELECTOR, "disk must be ssd", Origin(SOURCE, "web.yaml"))
    known = recorded(record(web))
    found = plan(keep(desired(elsewhere={"web": why}), known)[0], known, observed(status(web)), NOW)
    assert [(action.op, action.cause) for action in found.actions] == [("destroy", "disk must be ssd")]
