"""What isolators say about one launch becomes one launch, or an error that names the conflict."""

from __future__ import annotations

import pytest

from reconciler.errors import Terminal
from reconciler.runtime.isolators.isolator import LaunchInfo, merge


def test_steps_keep_the_isolators_order_and_sets_are_united() -> None:
    first = LaunchInfo(frozenset({"pid"}), frozenset({"network"}), ({"op": "a"},), {"A": "1"})
    second = LaunchInfo(frozenset({"mount"}), frozenset(), ({"op": "b"},), {"B": "2"})
    merged = merge([first, None, second])
    assert merged == LaunchInfo(
        frozenset({"pid", "mount"}), frozenset({"network"}), ({"op": "a"}, {"op": "b"}), {"A": "1", "B": "2"}
    )


def test_nobody_wanting_anything_is_an_empty_launch() -> None:
    assert merge([None]) == LaunchInfo()


def test_the_same_variable_with_the_same_value_is_no_conflict() -> None:
    assert merge([LaunchInfo(env={"A": "1"}), LaunchInfo(env={"A": "1"})]).env == {"A": "1"}


def test_two_values_for_one_variable_are_an_error_with_both() -> None:
    with pytest.raises(Terminal, match=r"variable A: '1' and '2'"):
        merge([LaunchInfo(env={"A": "1"}), LaunchInfo(env={"A": "2"})])


def test_a_namespace_that_is_there_already_is_not_made() -> None:
    made = LaunchInfo(namespaces=frozenset({"network", "uts"}))
    merged = merge([made, LaunchInfo(entered={"network": int})])
    assert (merged.namespaces, merged.entered) == (frozenset({"uts"}), {"network": int})


def test_a_namespace_both_made_and_entered_is_an_error() -> None:
    with pytest.raises(Terminal, match="ipc"):
        merge([LaunchInfo(namespaces=frozenset({"ipc"})), LaunchInfo(join=frozenset({"ipc"}))])
