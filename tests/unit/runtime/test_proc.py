"""Who a process is, read from /proc: command names are hostile, pids come back."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reconciler.runtime.kernel import proc

# the fields of proc(5) after the name: state, ppid, 4 others, flags, 12 others, start time, the rest
TAIL = "{state} 17 1 15 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 123456 99 0 0"


def stat(comm: str, state: str = "S", flags: int = 0x400000) -> proc.ProcessStat:
    return proc.parse_stat(f"4242 ({comm}) " + TAIL.format(state=state, flags=flags))


@pytest.mark.parametrize(
    "comm", ["sh", "", "a b", ") R 1 2 3", "((", "))", ") Z 1 1 0 -1 4 0", "line\nbreak", "tab\t)", "�", "kworker/u8:0"]
)
def test_no_command_name_can_forge_a_field(comm: str) -> None:
    assert stat(comm) == proc.ProcessStat(pid=4242, state="S", ppid=17, session=15, start=123456, exiting=False)


@pytest.mark.parametrize(("state", "dead"), [("R", False), ("S", False), ("D", False), ("T", False), ("Z", True)])
def test_a_zombie_is_dead_and_a_stopped_process_is_not(state: str, dead: bool) -> None:
    assert stat("x", state=state).dead is dead


def test_a_process_on_its_way_out_says_so() -> None:
    assert stat("x", flags=0x400004).exiting


def test_a_real_process_is_known_by_its_start_time() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = proc.read_stat(child.pid)
    assert found is not None and found.ppid == os.getpid()
    assert proc.is_running(child.pid, found.start) and not proc.is_running(child.pid, found.start + 1)
    assert child.pid in proc.descendants(os.getpid())
    child.communicate(b"\n", timeout=10)
    assert proc.read_stat(child.pid) is None and not proc.is_running(child.pid, found.start)


def test_a_zombie_does_not_run() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    found = proc.read_stat(child)
    assert found is not None and found.dead and not proc.is_running(child, found.start)
    os.waitpid(child, 0)


def test_a_pidfd_tells_its_pid_and_when_it_was_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(child.pid)
    assert proc.pid_of(pidfd) == child.pid
    child.communicate(b"\n", timeout=10)
    assert proc.pid_of(pidfd) == -1
    os.close(pidfd)
    with Path(os.devnull).open("rb") as null, pytest.raises(OSError, match="not a pidfd"):
        proc.pid_of(null.fileno())


@pytest.mark.vm
def test_there_is_no_pidfd_of_a_number_that_is_no_process() -> None:
    """That of a session whose leader was reaped, and of a thread: kernels differ in what they say."""
    leader = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!"], stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    left = int(leader.stdout.readline())
    leader.wait(10)
    going, numbers = threading.Event(), queue.SimpleQueue[int]()
    thread = threading.Thread(target=lambda: (numbers.put(threading.get_native_id()), going.wait()))
    thread.start()
    try:
        for number in (leader.pid, numbers.get(timeout=10)):
            with pytest.raises(ProcessLookupError):
                proc.pidfd(number)
    finally:
        going.set()
        thread.join()
        os.kill(left, signal.SIGKILL)
        leader.stdout.close()


def test_namespaces_are_those_of_the_specs_table() -> None:
    found = proc.namespaces("self")
    assert found.keys() == {"mount", "pid", "network", "uts", "ipc", "cgroup", "user"}
    assert found["mount"] == Path("/proc/self/ns/mnt").stat().st_ino
    assert proc.namespaces(2**22 + 1) == {}
