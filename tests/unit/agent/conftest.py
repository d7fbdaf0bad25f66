"""A private pair of directories, and records to put in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.agent.paths import Places
from reconciler.agent.store import Store
from reconciler.loop.values import Life, Origin, Record
from reconciler.spec import normal
from reconciler.spec.model import ContainerSpec


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "root", tmp_path / "run")


@pytest.fixture
def store(places: Places) -> Store:
    return Store(places)


def record(name: str, life: Life | None = None) -> Record:
    spec = ContainerSpec(name=name, command=("sleep", "1"))
    origin = Origin("/specs", f"/specs/{name}.yaml", 3)
    return Record(name, normal.SCHEMA, spec, normal.digest(spec), 2, origin, life or Life(starts=1))
