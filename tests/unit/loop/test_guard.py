"""The guard against mass deletion."""

from __future__ import annotations

from dataclasses import replace

from reconciler.loop.guard import held
from reconciler.loop.values import Recorded
from tests.unit.loop.values import desired, record, recorded, spec

NAMES = [f"web{number}" for number in range(8)]


def eight() -> Recorded:
    return recorded(*(record(spec(name, "x")) for name in NAMES))


def keeping(*names: str, **fields: object) -> object:
    return desired(*(spec(name, "x") for name in names), **fields)


def test_five_of_eight_are_held() -> None:
    assert held(keeping(*NAMES[:3]), eight()) == frozenset(NAMES[3:])  # type: ignore[arg-type]


def test_half_of_them_is_not_more_than_half() -> None:
    ten = recorded(*(record(spec(f"web{number}", "x")) for number in range(10)))
    assert held(keeping(*(f"web{number}" for number in range(5))), ten) == frozenset()  # type: ignore[arg-type]


def test_four_are_few_enough_even_when_they_are_all() -> None:
    assert held(desired(), recorded(*(record(spec(name, "x")) for name in NAMES[:4]))) == frozenset()


def test_nested_names_do_not_count() -> None:
    pod = [spec("pod")] + [spec(f"pod.{name}", "x") for name in NAMES]
    assert held(desired(), recorded(*map(record, pod))) == frozenset()


def test_names_of_other_sources_and_names_on_their_way_out_do_not_count() -> None:
    records = [record(spec(name, "x")) for name in NAMES]
    records[0] = record(spec("web0", "x"), source="/elsewhere")
    for number in range(1, 4):
        records[number] = replace(records[number], deleting=True)
    assert held(desired(), recorded(*records)) == frozenset()


def test_an_incomplete_listing_drops_nothing() -> None:
    assert held(desired(complete=False), eight()) == frozenset()


def test_approval_lets_go_and_the_rest_stays_held() -> None:
    before = held(desired(), eight())
    few = recorded(*(record(spec(name, "x")) for name in NAMES[:2]))
    assert held(desired(), eight(), {"web7"}, before) == before - {"web7"}
    assert held(desired(), few, frozenset(), before) == {"web0", "web1"}


def test_what_is_put_back_is_held_no_longer() -> None:
    before = held(desired(), eight())
    assert held(keeping(*NAMES), eight(), frozenset(), before) == frozenset()  # type: ignore[arg-type]
