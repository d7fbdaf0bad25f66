"""What a keeper hands over to its next image: all of it, in a form that refuses what is not known."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.runtime.launcher import channel, handover
from reconciler.runtime.launcher.keeper import Client
from reconciler.runtime.launcher.pump_holding import Held
from reconciler.runtime.launcher.wards import Ward

RAW = {"listener": 3, "lock": 4, "clients": [{"fd": 9, "agent": True}], "wards": []}


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_nothing_of_a_ward_is_left_behind(sockets: tuple[socket.socket, socket.socket]) -> None:
    """Whatever is added to it must be added to what is handed over."""
    client = Client(sockets[0])
    ward = Ward("shop", "cafe", 7, 99, 20)
    ward.go_fd, ward.error_fd, ward.keep = 21, 22, {"reaped": 23, "kill": 24}
    ward.client, ward.transient, ward.released, ward.is_adopted, ward._release_seq = client, True, True, True, 5
    ward.pump = Held({"terminal": 25, "log:stdout": 26})
    ward.pump.leash = sockets[1]
    state = json.loads(json.dumps(ward.handed_over()))
    taken = Ward.taken_over(state, {sockets[0].fileno(): client})
    plain = {key: value for key, value in vars(ward).items() if key != "pump"}
    assert plain == {key: value for key, value in vars(taken).items() if key != "pump"}
    assert taken.pump is not None and taken.pump.leash is not None and taken.pump.console is None
    assert taken.pump.ends == ward.pump.ends and vars(taken.pump).keys() == vars(ward.pump).keys()
    taken.pump.leash.detach()
    shared = {sockets[0].fileno(), sockets[1].fileno()}
    assert handover.descriptors({**RAW, "wards": [state]}) | shared == {3, 4, 9, *range(20, 27)} | shared


@pytest.mark.parametrize("version", [0, handover.VERSION + 1])
def test_state_of_another_version_is_refused(version: int) -> None:
    with pytest.raises(ValueError, match=f"version {version}"):
        handover.read(channel.sealed(json.dumps({**RAW, "version": version}).encode()))


def test_state_that_could_still_be_changed_is_refused() -> None:
    memfd = os.memfd_create("state")
    os.write(memfd, json.dumps({**RAW, "version": handover.VERSION}).encode())
    with pytest.raises(ValueError, match="sealed"):
        handover.read(memfd)


def test_code_differs_with_what_a_keeper_may_load(tmp_path: Path) -> None:
    for package in ("kernel", "launcher/init", "docker/executor"):
        (tmp_path / package).mkdir(parents=True)
    for name in ("kernel/proc.py", "launcher/init/static-init", "docker/executor/record.py"):
        found = []
        for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
            (tmp_path / name).write_text(text)
            found.append(handover.code.__wrapped__(str(tmp_path)))
        assert found[0] == found[2] != found[1]
    assert handover.code() == handover.code.__wrapped__()
