"""What is told of samples: percentages only between two of one run, and every key always."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli.stats import _size
from reconciler.runtime.mesos.checkpoint import Run
from reconciler.runtime.mesos.measuring import Sample, as_json, context_of, cpu_percent


def sampled(at: float, cpu: float | None, run: str = "a") -> Sample:
    return Sample(run, at, {"cpu_seconds": cpu, "memory_bytes": 7})


def test_cpu_use_is_of_one_cpu_over_the_interval() -> None:
    assert cpu_percent(sampled(10, 1), sampled(12, 4)) == 150
    assert cpu_percent(sampled(10, 1), sampled(12, 1)) == 0


@pytest.mark.parametrize(
    "before", [None, sampled(10, 1, "an earlier run"), sampled(12, 1), sampled(10, None)], ids=repr
)
def test_it_is_not_told_where_it_cannot_be(before: Sample | None) -> None:
    assert cpu_percent(before, sampled(12, 4)) is None


def test_keys_are_the_same_for_what_runs_and_what_does_not() -> None:
    runs, ended = as_json("job", sampled(1, 2), 3.5), as_json("job", None, None)
    assert runs.keys() == ended.keys()
    assert (runs["running"], runs["cpuPercent"], runs["memoryBytes"], runs["pidsLimit"]) == (True, 3.5, 7, None)
    assert not ended["running"] and set(ended.values()) == {"job", False, None}


def test_a_container_has_the_processes_of_what_is_nested_in_it_and_of_nobody_else() -> None:
    runs = [Run(name, "r", "b", "d", "posix", None, pid=pid) for name, pid in NAMES.items()]
    assert context_of(runs[0], runs, Path("/x")).first == (1, 2, 3)
    assert context_of(runs[1], runs, Path("/x")).first == (2, 3)


NAMES = {"shop": 1, "shop.web": 2, "shop.web.log": 3, "shopping": 4, "other": 5, "shop.new": None}


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (999, "999B"), (1000, "0.977Ki"), (64 << 20, "64Mi"), (3 << 40, "3Ti"), (None, "-")]
)
def test_sizes_have_three_figures(count: int | None, text: str) -> None:
    assert _size(count) == text
