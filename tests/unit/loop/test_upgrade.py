"""What an earlier version recorded and launched is, to this one, just as its file says: an upgrade restarts nothing.

`fixtures/recorded/<version>/` holds a spec file, the records of it as that version left them under ROOT, and the
checkpoints of what it launched. They are never changed; a form that can no longer be read as it is needs a migration.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reconciler.agent.paths import Places
from reconciler.agent.store import Store
from reconciler.loop.preview import Preview, preview
from reconciler.runtime.mesos.checkpoint import Checkpoints
from reconciler.spec.sources.directory import DirectorySource
from reconciler.states import ContainerState

RECORDED = Path(__file__).parents[2] / "fixtures" / "recorded"


@pytest.fixture(params=sorted(path.name for path in RECORDED.iterdir()))
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The directories of an agent of that version, as it left them."""
    specs = tmp_path / "specs"
    specs.mkdir()
    shutil.copy(RECORDED / request.param / "shop.yaml", specs)
    shutil.copytree(RECORDED / request.param / "root", tmp_path / "root" / "containers")
    shutil.copytree(RECORDED / request.param / "runtime", tmp_path / "run" / "containers")
    for record in (tmp_path / "root").rglob("record.json"):
        record.write_text(record.read_text().replace("SPECS", str(specs)))
    return tmp_path


def planned(earlier: Path) -> Preview:
    recorded = Store(Places(earlier / "root", earlier / "run")).load()
    assert recorded.unreadable == {}
    checkpoints = Checkpoints(earlier / "run")
    runs = [checkpoints.read(name) for name in checkpoints.names()]
    seen = {run.name: run.status() for run in runs if run is not None}
    assert all(each.state is ContainerState.RUNNING for each in seen.values())
    assert recorded.records.keys() == seen.keys() == {"shop", "shop.web", "shop.log"}
    specs = earlier / "specs"
    return preview(DirectorySource(specs, lambda: None).list(), recorded, seen, str(specs), 1795415300.0)


def test_there_is_nothing_to_do_about_what_an_earlier_version_left_running(earlier: Path) -> None:
    found = planned(earlier)
    assert found.desired.refusals == {}
    assert found.plan.actions == ()


def test_a_change_is_still_seen_against_an_old_record(earlier: Path) -> None:
    file = earlier / "specs" / "shop.yaml"
    file.write_text(file.read_text().replace("MODE: test", "MODE: other"))
    assert "MODE" in {action.name: action.cause for action in planned(earlier).plan.actions}["shop"]
