"""What people and programs see, to the letter."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent.lock import AgentLock
from reconciler.agent.paths import Places
from reconciler.agent.store import Store
from reconciler.cli.ps import _table
from reconciler.cli.table import age, clean, table
from reconciler.loop.rows import as_json
from reconciler.loop.values import Row
from reconciler.runtime.containerizer import Termination
from reconciler.states import Reason, Status
from tests.unit.agent.test_store import row
from tests.unit.cli.conftest import Command

SPEC = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: web}\nspec: {command: [sleep, '1']}\n"
FAILED = Termination(3, None, Reason.EXITED, 100.0, "exited with code 3")


@pytest.fixture
def store(places: Places) -> Store:
    return Store(places)


def rows() -> list[Row]:
    job = row("job", "exited with code 3")
    return [
        replace(job, status=Status.FAILED, state=None, pid=None, ready=False, exit=FAILED, reason=Reason.EXITED),
        replace(row("pod"), started_at=1000.0),
        replace(row("pod.web", "line\nbreak \x1b[31mred"), started_at=1000.0, restarts=12),
    ]


def public() -> list[dict[str, Any]]:
    return [as_json(each) for each in rows()]


def test_nested_containers_are_indented_below_their_parents() -> None:
    assert _table(public(), 1125.0, wide=False).splitlines() == [
        "NAME   STATUS   PID  RESTARTS  AGE  MESSAGE",
        "job    Failed   -    0         -    exited with code 3",
        "pod    Running  7    0         2m",
        r"  web  Running  7    12        2m   line\nbreak \x1b[31mred",
    ]


def test_the_wide_table_adds_where_it_comes_from() -> None:
    head, first, *_ = _table(public(), 1125.0, wide=True).splitlines()
    assert head.split() == ["NAME", "STATUS", "PID", "RESTARTS", "AGE", "STATE", "GEN", "DIGEST", "SOURCE", "MESSAGE"]
    assert first.split()[5:9] == ["-", "1", "d", "/specs/a.yaml"]


def test_ps_prints_what_the_agent_published(reconciler: Command, places: Places) -> None:
    with AgentLock(places, "/specs"):
        Store(places).publish(rows(), {"/specs/x.txt": "no spec file"}, [])
        assert json.loads(reconciler("ps", "-o", "json").out) == public()
        assert reconciler("ps", "-o", "name").out == "job\npod\npod.web\n"
        status = reconciler("status")
        assert status.out.startswith(f"agent: pid {os.getpid()}, /specs\n/specs/x.txt: no spec file\n")


def test_ps_of_nothing_is_an_empty_list(reconciler: Command, places: Places) -> None:
    assert reconciler("ps", "-o", "json").out == "[]\n"
    assert reconciler("ps").out == "NAME  STATUS  PID  RESTARTS  AGE  MESSAGE\n"
    assert not places.root.exists()


def test_why_is_a_chain_from_the_file_to_what_comes_next(reconciler: Command, places: Places) -> None:
    with AgentLock(places, "/specs"):
        Store(places).publish(rows(), {}, [])
        assert reconciler("why", "job").out.splitlines() == [
            "file       /specs/a.yaml",
            "record     none: nothing was applied under this name",
            "last exit  code 3 (Exited) at 1970-01-01T00:01:40.000Z",
            "now        Failed",
            "reason     Exited",
            "because    exited with code 3",
        ]


def test_status_of_a_name_shows_what_is_nested_in_it(reconciler: Command, places: Places) -> None:
    with AgentLock(places, "/specs"):
        Store(places).publish(rows(), {}, [])
        out = reconciler("status", "pod").out
    assert "pod: Running (RUNNING)\n" in out and "pod.web: Running (RUNNING)\n" in out
    assert "job" not in out and "\x1b" not in out


def test_plan_says_what_would_be_done_and_does_nothing(reconciler: Command, places: Places, tmp_path: Path) -> None:
    specs = tmp_path / "specs"
    specs.mkdir()
    assert reconciler("plan", str(specs)).code == 0
    (specs / "web.yaml").write_text(SPEC)
    said = reconciler("plan", str(specs))
    assert (said.code, said.out) == (2, f"create  web  new in {specs}/web.yaml:1\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["specs"]


def test_a_plan_with_an_invalid_file_is_1_and_the_rest_is_planned(reconciler: Command, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(SPEC)
    (tmp_path / "bad.yaml").write_text(SPEC.replace("web", "bad").replace("command", "comand"))
    said = reconciler("plan", str(tmp_path), "-o", "json")
    document = json.loads(said.out)
    assert said.code == 1
    assert [action["name"] for action in document["actions"]] == ["web"]
    assert f"{tmp_path}/bad.yaml:4:8" in document["errors"][0]


def test_a_plan_for_a_directory_that_is_not_there_is_1(reconciler: Command, tmp_path: Path) -> None:
    said = reconciler("plan", str(tmp_path / "nowhere"), "-o", "json")
    assert said.code == 1
    assert json.loads(said.out)["errors"] == [f"{tmp_path}/nowhere: No such file or directory"]


def test_a_plan_says_what_the_launcher_cannot_give(reconciler: Command, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(SPEC.replace("{command", "{namespaces: {pid: private}, command"))
    said = reconciler("plan", str(tmp_path), "--launcher", "posix")
    assert (said.code, said.out) == (1, "")
    assert f"web: {tmp_path}/web.yaml:1: spec.namespaces.pid: private cannot be had" in said.err


def test_check_is_quiet_about_what_is_right(reconciler: Command, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(SPEC)
    said = reconciler("check", str(tmp_path / "web.yaml"))
    assert (said.code, said.out, said.err) == (0, "1 containers in 1 files: all valid\n", "")


def test_logs_go_where_the_container_wrote_them(reconciler: Command, places: Places, store: Store) -> None:
    store.publish([row("web")], {}, [])
    logs = store.logs("web")
    (logs / "previous").mkdir(parents=True)
    for file, text in {"stdout": "out", "stderr": "err", "stdout.1": "older ", "previous/stdout": "before"}.items():
        (logs / file).write_text(text)
    said = reconciler("logs", "web")
    assert (said.out, said.err) == ("older out", "err")
    assert reconciler("logs", "web", "--previous").out == "before"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (200_000, "2d"), (-5, "0s")],
)
def test_an_age_has_two_figures(seconds: int, text: str) -> None:
    assert age("1970-01-01T00:00:00.000Z", seconds) == text


def test_nothing_written_to_a_terminal_can_steer_it() -> None:
    assert clean("a\x1b]0;x\x07\u202e\u2028b\udc80") == "a\\x1b]0;x\\x07\\u202e\\u2028b\\udc80"
    assert table(["A", "B"], [["x\ny", "1"]]) == "A     B\nx\\ny  1\n"
