"""The pages name everything there is, so that none of it can be added in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.agent import metrics
from reconciler.cli.main import VERBS
from reconciler.spec.schema import describe
from reconciler.states import ContainerState, EventType, Reason, Status

DOCS = Path(__file__).parents[3] / "docs"


def fields(path: str) -> list[str]:
    found = describe(path)
    assert found is not None
    return [each.path.rpartition(".")[2] for each in found.fields]


@pytest.mark.parametrize("word", [*VERBS, *Status, *Reason, *ContainerState, *EventType])
def test_the_page_on_the_command_line_has(word: str) -> None:
    assert word in (DOCS / "cli.md").read_text()


@pytest.mark.parametrize(
    "path", ["metadata", "spec", "spec.image", "spec.healthChecks", "spec.resources.limits", "spec.namespaces"]
)
def test_the_page_on_the_spec_has_each_field_below(path: str) -> None:
    text = (DOCS / "spec.md").read_text()
    assert [field for field in fields(path) if field not in text] == []


def test_the_page_on_metrics_has_each_of_them() -> None:
    text = (DOCS / "metrics.md").read_text()
    parts = [each for group in metrics.PARTS for each in group.metrics if each.name.partition("_")[0] != "network"]
    named = [*(f"loop_{name}" for name in metrics.PRESENT), *(each.name for each in (*metrics.OF_CONTAINER, *parts))]
    assert [name for name in named if f"`{name}`" not in text] == []
