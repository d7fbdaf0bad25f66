"""What every init does, the static one and the interpreter that stands in for it, told by the keeper to do it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher import static_init
from reconciler.runtime.launcher.child import END_NOW, FORWARDED
from tests import processes
from tests.bench.engines import pss
from tests.integration.runtime.test_keeper import Kept, Process
from tests.integration.runtime.world import wait_for

LISTEN = """
import os, signal, sys
heard = set(map(int, sys.argv[1:]))
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
print("ready", flush=True)
while True:
    number = signal.sigwait(heard)
    print(int(number), flush=True)
    if number == signal.SIGTERM:
        os._exit(5)
"""
_STATIC_BYTES = 64 << 10


@pytest.fixture
def kept(base: Path, init: str) -> Iterator[Kept]:
    made = Kept(base)
    yield made
    made.caller.call("end")
    made.caller.sock.close()
    wait_for("the keeper is gone", lambda: not made.alive(), 5)


def payload(process: Process) -> int:
    return proc.children(process.pid)[0]


def says(process: Process, text: str) -> None:
    wait_for(f"it says {text!r}", lambda: text in process.read("stdout"))


def test_each_is_what_it_is_named_after_and_of_its_size(kept: Kept, init: str) -> None:
    process = kept.run("/bin/sleep", "100", name="shop")
    assert processes.cmdline(process.pid) == ("init shop",)
    assert Path(f"/proc/{process.pid}/comm").read_text() == "init\n"
    assert ("memfd:init" in str(Path(f"/proc/{process.pid}/exe").readlink())) == (init == "static")
    links = sorted(link.readlink().name for link in Path(f"/proc/{process.pid}/fd").iterdir())
    assert links == sorted(["null"] * 3 + [f"{process.names['run']}.exit"])
    if init == "static":
        assert pss([process.pid]) < _STATIC_BYTES
    process.signal(signal.SIGTERM)
    assert process.ended().status == (str(int(signal.SIGTERM)), "0")


def test_signals_reach_the_payload_but_those_meant_for_the_init(kept: Kept) -> None:
    """One after the other: a signal that stops and one that continues would take each other back. SIGTERM last."""
    numbers = sorted(map(int, FORWARDED - {signal.SIGTERM}))
    process = kept.run("/usr/bin/python3", "-c", LISTEN, *map(str, [*numbers, int(signal.SIGTERM)]))
    says(process, "ready")
    for number in numbers:
        process.signal(number)
        says(process, f"\n{number}\n")
    process.signal(signal.SIGTERM)
    assert process.ended().status == (str(5 << 8), "0")


def test_a_payload_may_end_before_its_init_is_ready(kept: Kept) -> None:
    ended = [kept.run("/bin/sh", "-c", f"exit {number}").ended().status for number in range(1, 20)]
    assert ended == [(str(number << 8), "0") for number in range(1, 20)]


def _end_now(process: Process) -> None:
    process.signal(END_NOW)


def _end_payload(process: Process) -> None:
    os.kill(payload(process), signal.SIGKILL)


@pytest.mark.parametrize("end", [_end_now, _end_payload])
def test_all_below_it_ends_with_it_whatever_double_forked_away(kept: Kept, end: Callable[[Process], None]) -> None:
    script = "setsid -f setsid -f sleep 1000; for i in 1 2 3; do (true &); done; echo forked; exec sleep 1000"
    process = kept.run("/bin/sh", "-c", script)
    says(process, "forked")
    wait_for("orphans are reaped, the daemon stays", lambda: len(proc.children(process.pid)) == 2)
    everybody = proc.descendants(process.pid)
    end(process)
    assert process.ended().status == ("9", "0")
    assert not [pid for pid in everybody if processes.alive(pid)]


def test_hundreds_of_children_are_ended(kept: Kept) -> None:
    script = "i=0; while [ $i -lt 150 ]; do setsid -f sleep 1000; i=$((i+1)); done; echo forked; exec sleep 1000"
    process = kept.run("/bin/sh", "-c", script)
    says(process, "forked")
    wait_for("all are children of the init", lambda: len(proc.children(process.pid)) == 151)
    process.signal(END_NOW)
    assert process.ended().status == ("9", "0")


def test_a_payload_dies_with_its_init(kept: Kept) -> None:
    process = kept.run("/bin/sleep", "1000")
    pid = payload(process)
    process.signal(signal.SIGKILL)
    assert process.ended().status == ("", "9")
    wait_for("the payload is dead", lambda: not processes.alive(pid))


def test_a_holder_ends_when_it_is_told_to(kept: Kept) -> None:
    holder = kept.fork(None)
    holder.release()
    holder.signal(signal.SIGUSR1)
    assert proc.children(holder.pid) == [] and holder.alive()
    holder.signal(signal.SIGTERM)
    assert holder.ended().status == ("15", "0")


@pytest.mark.root
def test_it_ends_well_as_the_first_process_of_a_root_with_nothing_in_it(kept: Kept, base: Path) -> None:
    """No library and no module of this host's is there to be loaded late."""
    root = base / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin" / "sh").chmod(0o755)
    steps = [
        {"op": "mount", "target": "/", "flags": ["rec", "private"]},
        {"op": "take", "source": str(root), "as": "root"},
        {"op": "root"},
        {"op": "directories", "ordinary": ["/proc", "/dev"]},
        {"op": "fresh", "target": "/proc", "type": "proc"},
        {"op": "fresh", "target": "/dev", "type": "tmpfs"},
        {"op": "nodes", "target": "/dev", "devices": ["null"], "links": {}},
        {"op": "pivot"},
    ]
    script = "(while :; do sleep 1; done) & exit 3"
    process = kept.run("/bin/sh", "-c", script, clone=["mount", "pid"], steps=steps)
    assert process.ended().status == (str(3 << 8), "0")


def test_what_is_executed_cannot_be_changed() -> None:
    try:
        fd = static_init.load()
    except FileNotFoundError:
        pytest.skip("the static init is not compiled here")
    try:
        assert static_init.why_not() == ""
        for change in (lambda: os.pwrite(fd, b"#", 0), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 1 << 20)):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(fd)
