"""The benchmark measures, whatever the figures, and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.runtime.kernel import cgroups
from tests.bench.warm import CGROUPS

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


def test_a_launch_of_each_kind_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "launch", "--count", "1", "--base", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    ours = next(words for words in rows if words[:1] == ["ours"])
    assert ours[1] == "1" and float(ours[2]) > 0
    assert any(words[:1] == ["floor:"] for words in rows)
    assert not list(tmp_path.iterdir())
    left = [path for each in cgroups.read_map().hierarchies for path in Path(each.mount).glob(f"{CGROUPS}*")]
    assert not left
