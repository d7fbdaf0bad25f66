"""The table of scenarios names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NAMED = re.findall(r"`(test_\w+)\.(test_\w+)`", (TESTS / "SCENARIOS.md").read_text())


def test_the_table_is_there() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("module", "name"), NAMED)
def test_the_scenario_exists(module: str, name: str) -> None:
    tree = ast.parse((TESTS / "e2e" / f"{module}.py").read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
