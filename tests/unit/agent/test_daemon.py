"""What the daemon tells a service manager, and what is remembered of its flags."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from reconciler.agent.daemon import _say_ready
from reconciler.agent.options import AgentOptions


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_is_a_line_and_a_notification(
    tmp_path: Path, abstract: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path if abstract else path)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + path if abstract else path)
        _say_ready()
        assert manager.recv(100) == b"READY=1"
    assert capsys.readouterr().out == "ready\n"


def test_a_service_manager_that_has_gone_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    _say_ready()


@pytest.mark.parametrize(
    "options", [AgentOptions(), AgentOptions(("mesos",), ("cgroups/mem",), "posix", "mine", (("disk", "ssd"),))]
)
def test_flags_survive_being_remembered(options: AgentOptions) -> None:
    kept = json.loads(json.dumps(options.remember()))
    assert AgentOptions.remembered(kept) == options
    assert kept == options.remember(), "the same flags are written once"


def test_flags_of_another_version_are_left_out() -> None:
    assert AgentOptions.remembered({"launcher": 5, "isolation": "x", "new": True}) == AgentOptions()
