"""Checkpoints: what is written is read back, and what is torn is unreadable, never something else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reconciler.runtime.containerizer import Termination
from reconciler.runtime.kernel.terminals import Size
from reconciler.runtime.launcher import inside
from reconciler.runtime.launcher.launcher import open_files
from reconciler.runtime.mesos.checkpoint import EXIT, REAPED, RUN, Checkpoints, Run, Unreadable
from reconciler.states import ContainerState, Reason

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "checkpoints"
ENDED = Termination(None, 9, Reason.OUT_OF_MEMORY, 12.5, "64Mi of 64Mi", oom_killed=True)
FULL = Run(
    name="shop.web",
    run="cafe",
    boot="b",
    digest="d",
    launcher="linux",
    state=ContainerState.RUNNING,
    pid=7,
    start=99,
    started_at=3.5,
    kill_signal="SIGINT",
    grace=0.5,
    namespaces={"pid": 4026531836},
    cgroups={"unified": "/sys/fs/cgroup/x"},
    sandbox="/s",
    logs="/l",
    log_size=10,
    log_files=3,
    plan={"argv": ["é", "\udcff"], "steps": [{"op": "enter", "namespaces": ["ipc"]}]},
    message="m",
    kill_at=77.5,
    termination=ENDED,
)
BARE = Run(name="job", run="r", boot="b", digest="d", launcher="posix", state=None)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path)


@pytest.mark.parametrize("run", [FULL, BARE], ids=["everything", "the least"])
def test_a_run_is_read_back_as_it_was_written(checkpoints: Checkpoints, run: Run) -> None:
    checkpoints.write(run)
    assert checkpoints.read(run.name) == run
    assert checkpoints.names() == [run.name]
    assert [path.name for path in checkpoints.directory(run.name).iterdir()] == [RUN]


def test_a_checkpoint_is_for_its_owner_alone(checkpoints: Checkpoints) -> None:
    checkpoints.write(FULL)
    assert checkpoints.directory("shop.web").stat().st_mode & 0o077 == 0


def test_every_torn_checkpoint_is_unreadable(checkpoints: Checkpoints) -> None:
    checkpoints.write(FULL)
    path = checkpoints.directory("shop.web") / RUN
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(Unreadable, match=r"run\.json"):
            checkpoints.read("shop.web")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"name": "shop.other"},
        {"state": "SLEEPING"},
        {"termination": {"code": 1}},
        {"termination": {**{"code": 1, "signal": None, "at": 0.0}, "reason": "Tired"}},
        {"an unknown field": 1},
        {"pid": "7"},
        {"start": None, "pid": 7.5},
        {"grace": "long"},
        {"kill_at": "soon"},
        {"plan": []},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_shape_is_unreadable(checkpoints: Checkpoints, change: dict[str, object]) -> None:
    checkpoints.write(FULL)
    path = checkpoints.directory("shop.web") / RUN
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(Unreadable):
        checkpoints.read("shop.web")


def test_a_checkpoint_of_an_earlier_release_is_understood(checkpoints: Checkpoints) -> None:
    """Who the payload is included: an `exec` into it must not be more than that."""
    path = checkpoints.directory("job") / RUN
    path.parent.mkdir(parents=True)
    path.write_bytes((FIXTURES / "1.json").read_bytes())
    run = checkpoints.read("job")
    assert run is not None and (run.pid, run.state, run.kill_at) == (7, ContainerState.RUNNING, None)
    made = inside.plan(run.plan, {"mount"}, ["/bin/id"], env={}, tty=Size(24, 80))
    became = {"op": "credentials", "uid": 65534, "gid": 65533, "groups": [65533]}
    assert made["payload_steps"] == made["init_steps"] == [became]
    assert [step["op"] for step in made["steps"]] == ["enter", "terminal", "workdir"]
    assert made["steps"][1]["uid"] == 65534 and open_files(run.plan) == {}
    checkpoints.write(run)
    assert checkpoints.read("job") == run


@pytest.mark.parametrize("text", ["[]", "null", "7", '"x"', "[" * 100_000], ids=lambda text: text[:10])
def test_json_that_is_no_checkpoint_is_unreadable(checkpoints: Checkpoints, text: str) -> None:
    checkpoints.write(FULL)
    (checkpoints.directory("shop.web") / RUN).write_text(text)
    with pytest.raises(Unreadable):
        checkpoints.read("shop.web")


def test_what_never_was_is_none_and_not_unreadable(checkpoints: Checkpoints) -> None:
    assert checkpoints.read("job") is None and checkpoints.names() == []
    checkpoints.remove("job")


def test_a_status_counts_only_once_its_line_is_whole(checkpoints: Checkpoints) -> None:
    checkpoints.write(BARE)
    assert checkpoints.read_end("job", EXIT) is None
    path = checkpoints.directory("job") / EXIT
    for text, status in (("", None), ("76", None), ("768\n", 768), ("9\n", 9)):
        path.write_text(text)
        assert checkpoints.read_end("job", EXIT) == status


def test_a_file_of_an_ending_that_is_garbage_is_no_status(checkpoints: Checkpoints) -> None:
    checkpoints.write(BARE)
    (checkpoints.directory("job") / REAPED).write_bytes(b"\xff\xfe nonsense\n")
    assert checkpoints.read_end("job", REAPED) is None


def test_a_new_run_does_not_read_the_last_ones_status(checkpoints: Checkpoints) -> None:
    checkpoints.write(BARE)
    (checkpoints.directory("job") / EXIT).write_text("768\n")
    os.close(checkpoints.open_end("job", EXIT, fresh=False))
    assert checkpoints.read_end("job", EXIT) == 768
    os.close(checkpoints.open_end("job", EXIT, fresh=True))
    assert checkpoints.read_end("job", EXIT) is None


def test_a_planted_link_is_not_followed(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.write(BARE)
    (checkpoints.directory("job") / EXIT).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        checkpoints.open_end("job", EXIT, fresh=True)
    assert not (tmp_path / "elsewhere").exists()
