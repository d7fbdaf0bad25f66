"""The pages name everything there is, so that none of it can be added in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

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


@pytest.mark.parametrize("path", ["metadata", "spec", "spec.healthChecks", "spec.resources.limits", "spec.namespaces"])
def test_the_page_on_the_spec_has_each_field_below(path: str) -> None:
    text = (DOCS / "spec.md").read_text()
    assert [field for field in fields(path) if field not in text] == []
