"""The leak check itself: whatever is leaked on purpose must be found, and named."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from pathlib import Path

import pytest

from tests import leaks, processes
from tests.e2e.checks import eventually


def found(before: leaks.Snapshot, scope: leaks.Scope) -> list[str]:
    return leaks.leaks(before, leaks.take(scope))


def test_nothing_left_is_reported_as_nothing(nursery: processes.Nursery, tmp_path: Path) -> None:
    scope = leaks.Scope((tmp_path,), runtime=(tmp_path,))
    before = leaks.take(scope)
    nursery.run(["true"])
    assert leaks.left(before, lambda: scope) == []


def test_a_process_that_double_forked_away_is_found(nursery: processes.Nursery) -> None:
    before = leaks.take(leaks.Scope())
    nursery.run(["setsid", "sh", "-c", "sleep 4242.1 </dev/null >/dev/null 2>&1 &"])
    assert any("sleep 4242.1" in sentence for sentence in found(before, leaks.Scope()))
    leaks.sweep(leaks.Scope(), before)
    assert leaks.left(before, leaks.Scope) == []


@pytest.mark.root
@pytest.mark.cgroup
def test_a_cgroup_is_found_in_whatever_hierarchy_it_is(nursery: processes.Nursery) -> None:
    scope = leaks.Scope(owners=("leak-check-of-its-own",))
    for hierarchy in leaks.hierarchies():
        before = leaks.take(scope)
        Path(hierarchy, "leak-check-of-its-own", "web").mkdir(parents=True)
        assert len(found(before, scope)) == 2, hierarchy
        leaks.sweep(scope, before)
        assert found(before, scope) == []


@pytest.mark.root
def test_a_mount_is_found(nursery: processes.Nursery, tmp_path: Path) -> None:
    scope = leaks.Scope((tmp_path,))
    before = leaks.take(scope)
    (tmp_path / "a mount").mkdir()
    nursery.run(["mount", "-t", "tmpfs", "leak", str(tmp_path / "a mount")])
    assert [sentence for sentence in found(before, scope) if "a mount" in sentence]
    leaks.sweep(scope, before)
    assert found(before, scope) == []


@pytest.mark.root
def test_a_network_namespace_is_found_in_a_process_and_in_a_descriptor(nursery: processes.Nursery) -> None:
    before = leaks.take(leaks.Scope())
    child = nursery.spawn(["unshare", "--net", "sleep", "4242.2"], stdin=subprocess.DEVNULL)
    try:
        host = processes.namespace("self", "net")
        eventually(lambda: processes.namespace(child.pid, "net") != host, "the child has a network of its own")
        descriptor = os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY)
    finally:
        child.kill()
        child.wait()
    assert any("network namespace" in sentence and "held open" in sentence for sentence in found(before, leaks.Scope()))
    os.close(descriptor)
    assert found(before, leaks.Scope()) == []


@pytest.mark.root
def test_a_link_is_found(nursery: processes.Nursery) -> None:
    owner = secrets.token_hex(6)
    ours, scope = f"rc{owner[:6]}", leaks.Scope(owners=(owner,))
    before = leaks.take(scope)
    made = nursery.run(["ip", "link", "add", ours, "type", "bridge"])
    assert made.returncode == 0, made.stderr
    try:
        assert found(before, scope) == [f"network link {ours} is left"]
    finally:
        nursery.run(["ip", "link", "delete", ours])
    assert found(before, scope) == []


def test_a_socket_and_a_file_under_the_runtime_directory_are_found(tmp_path: Path) -> None:
    scope = leaks.Scope((tmp_path,), runtime=(tmp_path,))
    before = leaks.take(scope)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        (tmp_path / "rows").mkdir()
        (tmp_path / "rows" / "web.json").touch()
        (tmp_path / "keeper.lock").touch()
        sentences = [sentence.split(tmp_path.name)[1] for sentence in found(before, scope)]
    assert sentences == ["/s is left", "/rows/web.json is left", "/s is left"]


def test_a_leak_that_goes_within_the_promised_second_is_none(nursery: processes.Nursery) -> None:
    before = leaks.take(leaks.Scope())
    child = nursery.spawn(["sleep", "0.3"])
    assert leaks.left(before, leaks.Scope) == []
    child.wait()
    late = nursery.spawn(["sleep", "4242.3"])
    assert len(leaks.left(before, leaks.Scope, within=0.1)) == 1
    late.kill()
    late.wait()


def test_a_zombie_that_we_adopted_is_reaped(nursery: processes.Nursery) -> None:
    out = nursery.run(["sh", "-c", "sleep 0.05 >/dev/null 2>&1 & echo $!"]).stdout
    eventually(lambda: processes.read(int(out)) is None, "the orphan has been reaped")


def test_a_child_that_was_spawned_keeps_its_exit_code(nursery: processes.Nursery) -> None:
    children = [nursery.spawn(["sh", "-c", f"exit {code}"]) for code in range(20)]
    eventually(lambda: not any(processes.alive(child.pid) for child in children), "all have ended")
    nursery.run(["true"])  # gives a careless reaper the time to take them
    assert [child.wait() for child in children] == list(range(20))
