"""The keeper by itself, spoken to over its socket as the agent does."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher import channel, connection
from reconciler.runtime.launcher.connection import Caller, KeeperError
from reconciler.runtime.launcher.keeper import SOCKET
from tests import processes
from tests.integration.runtime.world import wait_for

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Kept:
    """A keeper of the test's own, and one connection to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.caller = self.connect()
        self.pid = self.caller.hello("agent")["pid"]

    def connect(self) -> Caller:
        return Caller(connection.connect(self.directory))

    def fork(self, argv: list[str] | None, **options: Any) -> Process:
        return Process(self, self.caller, argv, **options)

    def run(self, *argv: str, **options: Any) -> Process:
        process = self.fork(list(argv), **options)
        process.release()
        return process

    def alive(self) -> bool:
        return processes.alive(self.pid)


class Process:
    """A child of the keeper. `exit` and `reaped` are what init and keeper wrote down, None as long as nothing is."""

    def __init__(
        self,
        kept: Kept,
        caller: Caller,
        argv: list[str] | None,
        *,
        name: str = "",
        steps: list[dict[str, Any]] | None = None,
        init: bool = True,
        env: Mapping[str, str] | None = None,
        clone: list[str] | None = None,
        **fields: Any,
    ) -> None:
        self.caller, self.directory = caller, kept.directory
        self.names: dict[str, Any] = {"name": name or f"c{secrets.token_hex(3)}", "run": secrets.token_hex(4)}
        plan = {"name": self.names["name"], "init": init, "undumpable": True, "argv": argv, "steps": steps or []}
        plan |= {"payload_steps": [], "init_steps": []}
        plan |= {"init_steps": [], "payload_steps": []}
        plan["env"] = {"PATH": PATH, **(env or {})}
        with contextlib.ExitStack() as stack:
            fds = {"stdin": stack.enter_context(Path(os.devnull).open("rb")).fileno()}
            for role in ("stdout", "stderr", "exit", "reaped"):
                path = self.directory / f"{self.names['run']}.{role}"
                fds[role] = stack.enter_context(path.open("ab")).fileno()
            request: dict[str, Any] = {**self.names, "plan": plan, "clone": clone or [], **fields}
            answer, given = caller.call("fork", fds, **request)
        self.pid, self.start, self.pidfd = answer["pid"], answer["start"], given[0]

    def release(self) -> None:
        self.caller.call("release", **self.names)

    def read(self, role: str) -> str:
        return (self.directory / f"{self.names['run']}.{role}").read_text()

    def ended(self) -> Process:
        wait_for("it was reaped", lambda: self.read("reaped"))
        return self

    @property
    def status(self) -> tuple[str, str]:
        return self.read("exit").strip(), self.read("reaped").strip()

    def alive(self) -> bool:
        return proc.is_running(self.pid, self.start)

    def signal(self, number: int) -> None:
        signal.pidfd_send_signal(self.pidfd, number)


@pytest.fixture
def kept(base: Path) -> Iterator[Kept]:
    made = Kept(base)
    yield made
    made.caller.call("end")
    made.caller.sock.close()
    wait_for("the keeper is gone", lambda: not made.alive(), 5)


# ---- statuses


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", "0"),
        ("exit 7", str(7 << 8)),
        ("exit 137", str(137 << 8)),
        ("kill -TERM $$", "15"),
        ("kill -9 $$", "9"),
    ],
)
@pytest.mark.parametrize("init", [True, False], ids=["init", "no init"])
def test_a_payloads_raw_status_is_written_down(kept: Kept, script: str, status: int, init: bool) -> None:
    process = kept.run("/bin/sh", "-c", script, init=init).ended()
    assert process.status == ((str(status), "0") if init else ("", str(status)))
    assert process.read("stderr") == ""


def test_an_init_that_is_killed_leaves_its_own_status_only(kept: Kept) -> None:
    process = kept.run("/bin/sleep", "100")
    process.signal(signal.SIGKILL)
    assert process.ended().status == ("", "9")


def test_the_payloads_status_counts_and_not_that_of_orphans_its_init_reaps(kept: Kept) -> None:
    process = kept.run("/bin/sh", "-c", "(sh -c 'exit 9' &) ; (sh -c 'sleep 0.1; exit 8' &); sleep 0.3; exit 3")
    assert process.ended().status == (str(3 << 8), "0")


@pytest.mark.parametrize(
    ("argv", "number", "path"),
    [
        (["/no/such/command"], errno.ENOENT, "/no/such/command"),
        (["no-such-command"], errno.ENOENT, "no-such-command"),
        (["/etc/passwd"], errno.EACCES, "/etc/passwd"),
        (["passwd"], errno.EACCES, "/etc/passwd"),
        (["/etc"], errno.EACCES, "/etc"),
        (["/etc/passwd/x"], errno.ENOTDIR, "/etc/passwd/x"),
        ([""], errno.ENOENT, None),
    ],
)
@pytest.mark.parametrize("init", [True, False], ids=["init", "no init"])
def test_what_cannot_be_executed_is_told_with_its_path(
    kept: Kept, argv: list[str], number: int, path: str | None, init: bool
) -> None:
    process = kept.fork(argv, env={"PATH": "/nowhere:/etc/passwd:/etc"}, init=init)
    with pytest.raises(KeeperError) as refused:
        process.release()
    assert (refused.value.stage, refused.value.errno, refused.value.filename) == ("exec", number, path)
    code = 126 if number == errno.EACCES else 127
    assert process.ended().status[0 if init else 1] == str(code << 8)


def test_a_script_without_an_interpreter_line_is_not_executable(kept: Kept, base: Path) -> None:
    script = base / "script"
    script.write_bytes(b"\x00 no program")
    script.chmod(0o755)
    process = kept.fork([str(script)])
    with pytest.raises(KeeperError, match="Exec format error"):
        process.release()
    assert process.ended().status[0] == str(126 << 8)


@pytest.mark.parametrize(
    ("step", "stage", "path"),
    [
        ({"op": "workdir", "target": "/nowhere"}, "workdir", "/nowhere"),
        ({"op": "dance"}, "dance", None),
        ({"op": "mount"}, "mount", None),
    ],
    ids=["a directory that is not there", "a step of no known kind", "a step that lacks something"],
)
def test_a_step_that_fails_is_told_by_name_and_ends_the_child(
    kept: Kept, step: dict[str, Any], stage: str, path: str | None
) -> None:
    process = kept.fork(["/bin/true"], steps=[step])
    with pytest.raises(KeeperError) as refused:
        process.release()
    assert (refused.value.stage, refused.value.filename) == (stage, path)
    assert process.ended().status == ("", str(126 << 8))


# ---- clients


def test_a_blocked_child_runs_nothing_and_dies_with_the_client_that_asked_for_it(kept: Kept, base: Path) -> None:
    other = kept.connect()
    process = Process(kept, other, ["/usr/bin/touch", str(base / "ran")])
    assert process.alive()
    other.sock.close()
    process.ended()
    assert not process.alive() and not (base / "ran").exists()


def test_a_released_container_outlives_its_client_and_its_status_is_kept(kept: Kept) -> None:
    other = kept.connect()
    go = kept.directory / "go"
    process = Process(kept, other, ["/bin/sh", "-c", f"while [ ! -e {go} ]; do sleep 0.01; done; exit 4"])
    process.release()
    other.sock.close()
    kept.caller.hello("agent")  # answered after the hang-up was seen
    assert process.alive()
    go.touch()
    assert process.ended().status == (str(4 << 8), "0")


def test_a_transient_process_ends_with_its_client(kept: Kept) -> None:
    other = kept.connect()
    process = Process(kept, other, ["/bin/sleep", "100"], transient=True)
    process.release()
    other.sock.close()
    wait_for("it has ended", lambda: not process.alive())


def test_the_end_of_a_transient_process_spares_the_container_of_its_name(kept: Kept) -> None:
    container = kept.run("/bin/sleep", "100", name="shop")
    guest = kept.run("/bin/true", name="shop", transient=True, init=False)
    wait_for("the guest is gone", lambda: not guest.alive())
    kept.caller.hello("agent")
    assert container.alive() and container.read("reaped") == ""
    container.signal(signal.SIGKILL)


def test_a_container_takes_its_guests_and_nested_containers_with_it(kept: Kept) -> None:
    container = kept.run("/bin/sleep", "100", name="shop")
    others = [
        kept.run("/bin/sleep", "100", name="shop", transient=True, init=False),
        kept.run("/bin/sleep", "100", name="shop.web"),
        kept.fork(["/bin/sleep", "100"], name="shop.web.log"),
    ]
    stranger = kept.run("/bin/sleep", "100", name="shopping")
    container.signal(signal.SIGTERM)
    wait_for("all of them have ended", lambda: not any(each.alive() for each in others))
    assert stranger.alive()
    stranger.signal(signal.SIGTERM)


def test_garbage_and_senseless_requests_harm_nobody(kept: Kept) -> None:
    vandal = connection.connect(kept.directory)
    deep = b"=" + b"[" * 50_000
    for packet in (b"=", b"=[]", b"@", b"\0", b"={}", b'={"op": "fork"}', b'={"op": 5}', deep):
        vandal.send(packet)
    messages: list[channel.Message] = [
        {"op": "fork", "name": "x", "run": "y", "roles": ["stdin"], "plan": {}, "clone": []},
        {"op": "fork", "name": "x", "run": "y", "roles": [], "plan": {}, "clone": ["time machine"]},
        {"op": "release", "name": "x", "run": "y"},
        {"op": "adopt", "name": "x", "run": "y", "pid": 2**31 - 1, "start": 0, "roles": []},
        {"op": "adopt", "name": "x", "run": "y", "pid": "one", "start": 0, "roles": []},
        {"op": "hello", "version": 999, "role": "agent"},
    ]
    for message in messages:
        channel.send(vandal, message)
    vandal.close()
    kept.run("/bin/true").ended()
    assert kept.alive()


def test_releasing_a_child_that_has_died_meanwhile_is_an_error_and_not_the_keepers_end(kept: Kept) -> None:
    for _ in range(30):
        process = kept.fork(["/bin/true"])
        process.signal(signal.SIGKILL)
        with contextlib.suppress(KeeperError):
            process.release()
        assert process.ended().status == ("", "9")
    assert kept.alive()


def test_a_client_that_never_reads_is_dropped_and_stalls_nobody(kept: Kept) -> None:
    lazy = connection.connect(kept.directory)
    lazy.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionError):
        for _ in range(20_000):
            channel.send(lazy, {"op": "x" * 1000})
    kept.run("/bin/true").ended()
    lazy.close()


def test_a_plan_larger_than_a_packet_arrives(kept: Kept) -> None:
    process = kept.run("/bin/sh", "-c", 'printf %s "$BIG" | wc -c', env={"BIG": "x" * 120_000, "B2": "y" * 120_000})
    process.ended()
    assert process.read("stdout").strip() == "120000"


# ---- the keeper's own life


def test_it_is_gone_within_a_second_and_leaves_nothing(base: Path) -> None:
    kept = Kept(base)
    kept.run("/bin/true").ended()
    assert kept.alive()
    kept.caller.sock.close()
    wait_for("the keeper is gone", lambda: not kept.alive(), 1)
    assert [path.name for path in base.iterdir() if path.name.startswith("keeper")] == []


def test_a_container_keeps_it_alive_without_any_client(base: Path) -> None:
    kept = Kept(base)
    process = kept.run("/bin/sh", "-c", "sleep 0.8; exit 5")
    kept.caller.sock.close()
    assert process.ended().status == (str(5 << 8), "0"), "it was still there to reap"
    wait_for("the keeper is gone", lambda: not kept.alive(), 1)


@pytest.mark.root
@pytest.mark.cgroup
def test_it_takes_empty_cgroup_roots_with_it_and_leaves_full_ones(base: Path) -> None:
    mount = processes_hierarchy()
    empty, full = mount / f"rt-{secrets.token_hex(3)}" / "empty", mount / f"rt-{secrets.token_hex(3)}" / "full"
    (empty / "shop" / "web").mkdir(parents=True)
    (full / "shop").mkdir(parents=True)
    sleeper = subprocess.Popen(["/bin/sleep", "100"])
    (full / "shop" / "cgroup.procs").write_text(str(sleeper.pid))
    kept = Kept(base)
    kept.caller.call("hello", role="agent", version=connection.VERSION, roots=[str(empty), str(full)])
    kept.caller.sock.close()
    try:
        wait_for("the keeper is gone", lambda: not kept.alive(), 1)
        assert not empty.parent.exists() and (full / "shop").exists()
    finally:
        sleeper.kill()
        sleeper.wait()
        wait_for("the cgroup is empty", lambda: not (full / "shop" / "cgroup.procs").read_text())
        for path in (full / "shop", full, full.parent):
            path.rmdir()


def processes_hierarchy() -> Path:
    from reconciler.runtime.kernel import cgroups

    host = cgroups.read_map()
    found = host.unified or host.hierarchy_of("freezer")
    assert found is not None
    return Path(found.mount)


def test_of_many_that_are_started_at_once_one_stays(base: Path) -> None:
    def start(_: int) -> tuple[Caller, int]:
        caller = Caller(connection.connect(base))
        return caller, int(caller.hello("agent")["pid"])

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(start, range(20)))
    for caller, _ in found:
        caller.sock.close()
    pids = {pid for _, pid in found}
    assert len(pids) == 1
    wait_for("it is gone", lambda: not any(map(processes.alive, pids)), 3)


def test_a_second_one_refuses_to_start_and_disturbs_nothing(kept: Kept) -> None:
    process = kept.run("/bin/sleep", "100")
    connection.start(kept.directory)
    assert kept.caller.hello("agent")["pid"] == kept.pid
    assert [each["name"] for each in kept.caller.hello("agent")["containers"]] == [process.names["name"]]
    process.signal(signal.SIGTERM)
    process.ended()


def test_it_inherits_no_descriptor_and_no_environment_and_leads_a_session(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_AGENT", "1")
    read, write = os.pipe()
    os.set_inheritable(write, True)
    kept = Kept(base)
    os.close(write)
    assert os.read(read, 1) == b"", "nobody else holds the pipe open"
    os.close(read)
    assert set(processes.environ(kept.pid)) <= {"PATH", "LC_ALL"}
    links = {Path(f"/proc/{kept.pid}/fd/{name}").readlink().name for name in processes.names(f"/proc/{kept.pid}/fd")}
    named = {"null", "keeper.log", "keeper.lock", "memfd:init (deleted)"}
    assert all(link in named or link.startswith(("socket:", "pipe:", "anon_inode:", "[")) for link in links), links
    found = processes.read(kept.pid)
    assert found is not None and found.session == kept.pid
    line = processes.cmdline(kept.pid)
    assert "keeper" in line and str(base) in line and Path(f"/proc/{kept.pid}/cwd").readlink() == Path("/")
    kept.caller.sock.close()
    wait_for("it is gone", lambda: not kept.alive(), 2)


def test_whoever_captures_the_output_of_its_starter_does_not_hang(base: Path) -> None:
    code = "import sys; from pathlib import Path; from reconciler.runtime.launcher import connection; "
    code += "connection.start(Path(sys.argv[1]))"
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code, str(base)], capture_output=True, check=True, timeout=20)
    assert time.monotonic() - begun < 8, "it would stay for ten seconds when nobody connects"
    caller = Caller(connection.connect(base, launch=False))
    pid = caller.hello("agent")["pid"]
    caller.sock.close()
    wait_for("it is gone", lambda: not processes.alive(pid), 2)


def test_its_socket_is_its_owners_alone(kept: Kept) -> None:
    assert (kept.directory / SOCKET).stat().st_mode & 0o777 == 0o600


def test_many_short_lives_at_once_confuse_nobody(kept: Kept) -> None:
    """Ends, releases and forks in one batch of events: descriptors are used again at once."""

    def live(number: int) -> str:
        caller = kept.connect()
        with caller.sock:
            process = Process(kept, caller, ["/bin/sh", "-c", f"exit {number % 100}"])
            process.release()
            os.close(process.pidfd)
            return process.ended().status[0]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(live, range(160)))
    assert found == [str(number % 100 << 8) for number in range(160)]
    assert kept.alive() and isinstance(kept.caller.sock, socket.socket)
    left = len(processes.names(f"/proc/{kept.pid}/fd"))
    assert left < 16, f"{left} descriptors are open in the keeper"
