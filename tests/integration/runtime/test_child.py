"""What a payload starts with, and what its init does for it as long as both live."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.kernel import proc, syscalls
from reconciler.states import Reason
from tests import processes
from tests.integration.runtime.world import Agent, World, until

REPORT = """
import json, os, signal
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "fds": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    "targets": [os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)],
    "umask": status["Umask"], "blocked": status["SigBlk"], "ignored": status["SigIgn"], "caught": status["SigCgt"],
    "pid": os.getpid(), "session": os.getsid(0), "group": os.getpgrp(), "cwd": os.getcwd(),
    "env": dict(os.environ), "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
    "comm": open("/proc/self/comm").read().strip(),
}), flush=True)
"""


WAIT = "while [ ! -e go ]; do sleep 0.01; done"


async def report(agent: Agent, name: str = "job", **spec: Any) -> dict[str, Any]:
    """From an interpreter started directly, so that what it finds is what the container was given."""
    lines = await agent.run(name, command=["/usr/bin/python3", "-I", "-S", "-c", REPORT], **spec)
    found: dict[str, Any] = json.loads("\n".join(lines))
    return found


@pytest.mark.parametrize("init", [True, False], ids=["init", "no init"])
async def test_it_starts_clean(either: World, init: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_AGENT", "1")
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    umask = os.umask(0o077)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        async with either.agent() as agent:
            found = await report(agent, init=init, env={"GIVEN": "1"})
    finally:
        os.umask(umask)
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    assert found["fds"] == [0, 1, 2] and found["targets"][0] == "/dev/null"
    assert [Path(path).name for path in found["targets"][1:]] == ["stdout", "stderr"]
    assert found["umask"] == "0022" and int(found["blocked"], 16) == 0
    ignored_by_the_interpreter_itself = {signal.SIGPIPE, signal.SIGXFSZ}
    ignored = {number for number in range(1, 65) if int(found["ignored"], 16) >> (number - 1) & 1}
    assert ignored <= ignored_by_the_interpreter_itself
    assert found["session"] == found["group"] == found["pid"]
    assert found["cwd"] == str(either.sandbox("job")) == found["env"].pop("MESOS_SANDBOX")
    assert found["env"].keys() <= {"PATH", "HOME", "GIVEN", "LC_CTYPE"}
    assert found["comm"].startswith("python3")


async def test_no_signal_is_ignored_from_the_start(either: World) -> None:
    async with either.agent() as agent:
        lines = await agent.run("job", command=["/bin/grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"])
    assert [line.split()[1] for line in lines] == ["0" * 16, "0" * 16]


async def test_the_keeper_may_open_all_it_can_and_a_container_what_the_agent_was_started_with(either: World) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft // 2, hard))
    try:
        async with either.agent() as agent:
            lines = await agent.run("job", shell="ulimit -Sn; ulimit -Hn")
            keeper = resource.prlimit(either.keeper(), resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert lines == [str(soft // 2), str(hard)]
    assert keeper == (hard, hard)


def _ignore(number: int) -> None:
    """Past the C library, which keeps 32 and 33 for itself: the struct's first word is the handler."""
    action = struct.pack("=4Q", int(signal.SIG_IGN), 0, 0, 0)
    call = 13 if os.uname().machine == "x86_64" else 134
    assert ctypes.CDLL(None).syscall(call, number, action, None, ctypes.c_size_t(8)) == 0


async def test_no_signal_of_the_c_library_is_ignored_though_the_agent_ignores_it(either: World) -> None:
    _ignore(32)
    try:
        async with either.agent() as agent:
            lines = await agent.run("job", command=["/bin/grep", "-E", "SigIgn", "/proc/self/status"])
    finally:
        syscalls.default_disposition(32)
    assert [line.split()[1] for line in lines] == ["0" * 16]


@pytest.mark.root
@pytest.mark.cgroup
async def test_another_user_has_that_users_ids_home_and_sandbox(world: World) -> None:
    async with world.agent() as agent:
        found = await report(agent, user="65534:12")
        assert (found["uid"], found["gid"], found["groups"]) == ([65534] * 3, [12] * 3, [12])
        lines = await agent.run("nobody", user="nobody", shell="id -u; touch here && echo written; echo $HOME")
    assert lines == ["65534", "written", "/nonexistent"]


@pytest.mark.root
@pytest.mark.cgroup
async def test_what_a_container_holds_open_is_its_own(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=["/bin/sleep", "100"])
        init, payload = await agent.pid("shop"), await agent.payload("shop")
        for pid in (init, payload):
            links = [str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in processes.names(f"/proc/{pid}/fd")]
            strange = [
                link for link in links if "keeper" in link or link.startswith(("socket:", "pipe:", "anon_inode"))
            ]
            assert strange == [], f"process {pid} holds {links}"


# ---- the init


async def test_the_init_is_named_after_its_container(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=["/bin/sleep", "100"])
        pid = await agent.pid("shop")
        assert processes.cmdline(pid) == ("init shop",)
        assert Path(f"/proc/{pid}/comm").read_text() == "init\n"


@pytest.mark.root
@pytest.mark.cgroup
async def test_containers_read_neither_the_inits_memory_nor_its_environment(world: World, init: str) -> None:
    peek = "for f in mem environ maps exe; do (head -c1 /proc/1/$f >/dev/null) 2>&1 && echo read $f; done; echo done"
    usual = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+mknod"
    drop = ["setpriv", f"--bounding-set={usual}", "--inh-caps=-all", "/bin/sh", "-c", peek]
    async with world.agent() as agent:
        lines = await agent.run("shop", command=drop)
    assert lines[-1] == "done" and not [line for line in lines if line.startswith("read")], lines


async def test_without_an_init_the_payload_is_the_first_process(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("job", shell="echo I am $$; exec sleep 100", init=False)
        pid = await agent.pid("job")
        assert processes.read(pid) is not None
        said = await agent.says("job", "I am")
        inside = processes.status(pid)["NSpid"].split()[-1]
        assert said.split()[2] == inside
        assert inside == ("1" if either.launcher == "linux" else str(pid))


@pytest.mark.parametrize(
    "name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGINT", "SIGQUIT", "SIGCONT"]
)
async def test_the_init_passes_signals_on(either: World, name: str) -> None:
    number = signal.Signals[name]
    script = f"trap 'echo got it; exit 9' {name.removeprefix('SIG')}; echo ready; while :; do sleep 0.01; done"
    async with either.agent() as agent:
        await agent.launch("job", shell=script)
        await agent.says("job", "ready")
        assert await agent.containerizer.kill("job", number)
        ended = await agent.ended("job")
        assert (ended.code, ended.reason, agent.output("job")) == (9, Reason.EXITED, "ready\ngot it\n")
        assert not await agent.containerizer.kill("job", number)


async def test_signals_that_an_init_cannot_pass_on_reach_the_payload_too(either: World) -> None:
    async with either.agent() as agent:
        for name in ("job", "other"):
            await agent.launch(name, shell="sleep 1000 & exec sleep 1000")
        payload, init = await agent.payload("job"), await agent.pid("job")

        def state(pid: int) -> str:
            process = processes.read(pid)
            return process.state if process else ""

        assert await agent.containerizer.kill("job", signal.SIGSTOP)
        await until("it is stopped", lambda: state(payload) == "T")
        await until("the init is not", lambda: state(init) == "S")
        assert await agent.containerizer.kill("job", signal.SIGCONT)
        await until("it goes on", lambda: state(payload) == "S")
        for name, number in (("job", signal.SIGKILL), ("other", signal.SIGRTMAX)):
            assert await agent.containerizer.kill(name, number)
            ended = await agent.ended(name)
            assert (ended.signal, ended.reason) == (number, Reason.SIGNALED)
        assert not processes.alive(payload) and not await agent.containerizer.kill("job", signal.SIGSTOP)


@pytest.mark.parametrize(("number", "said"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGABRT, "SIGABRT")])
async def test_a_payload_that_dies_by_a_signal_is_told_as_such(either: World, number: int, said: str) -> None:
    async with either.agent() as agent:
        await agent.launch("job", command=["/bin/sleep", "100"])
        os.kill(await agent.payload("job"), number)
        ended = await agent.ended("job")
    assert (ended.code, ended.signal, ended.reason) == (None, number, Reason.SIGNALED) and said in ended.message


async def test_the_init_reaps_orphans(either: World) -> None:
    script = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.05' &); done; echo forked; sleep 100"
    async with either.agent() as agent:
        await agent.launch("job", shell=script)
        await agent.says("job", "forked")
        init = await agent.pid("job")

        def states() -> list[str]:
            found = [proc.read_stat(pid) for pid in proc.descendants(init)]
            return [stat.state for stat in found if stat]

        await until("only the shell and its sleep are left", lambda: len(states()) == 2)
        assert "Z" not in states()


async def test_what_double_forks_away_dies_with_its_container(either: World) -> None:
    daemon = "import os,time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); time.sleep(1000)"
    async with either.agent() as agent:
        await agent.launch("job", shell=f'/usr/bin/python3 -c "{daemon}"; echo away; sleep 1000')
        await agent.says("job", "away")
        init = await agent.pid("job")
        await until("the daemon is below the init", lambda: len(proc.descendants(init)) == 3)
        everybody = proc.descendants(init)
        await agent.destroy("job")
        assert [pid for pid in everybody if processes.alive(pid)] == []


async def test_the_payloads_own_end_takes_its_daemons_too(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("job", shell=f"setsid -f sleep 1000; setsid -f sleep 1000; {WAIT}; exit 3")
        init = await agent.pid("job")
        everybody = await until("both have begun", lambda: len(found := proc.descendants(init)) >= 3 and found)
        (either.sandbox("job") / "go").touch()
        assert (await agent.ended("job")).code == 3
        assert [pid for pid in everybody if processes.alive(pid)] == []


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.parametrize("init", [True, False], ids=["init", "no init"])
async def test_daemons_in_a_shared_pid_namespace_die_with_their_own_container_only(world: World, init: bool) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=["/bin/sleep", "1000"])
        shared = {"pid": "parent"}
        await agent.launch("shop.web", shell="setsid -f sleep 1001; sleep 0.1", namespaces=shared, init=init)
        await agent.launch("shop.log", command=["/bin/sleep", "1000"], namespaces=shared)
        await agent.ended("shop.web")

        def daemons() -> list[processes.Process]:
            return processes.running(["sleep", "1001"], processes.below(os.getpid()))

        await until("its daemon is dead", lambda: not daemons())
        assert (await agent.status("shop")).running and (await agent.status("shop.log")).running


@pytest.mark.root
@pytest.mark.parametrize("user", ["0", "65534"])
async def test_a_payload_dies_with_its_init(either: World, user: str) -> None:
    async with either.agent() as agent:
        await agent.launch("job", command=["/bin/sleep", "1000"], user=user)
        init, payload = await agent.pid("job"), await agent.payload("job")
        os.kill(init, signal.SIGKILL)
        ended = await agent.ended("job")
        assert (ended.code, ended.signal) == (None, signal.SIGKILL)
        await until("the payload is dead", lambda: not processes.alive(payload), 1)


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.parametrize("end", ["kill", "destroy"])
async def test_a_holder_has_no_payload_and_ends_when_it_is_told_to(world: World, end: str) -> None:
    async with world.agent() as agent:
        status = await agent.launch("shop", hostname="shop")
        assert status.running and status.pid is not None and proc.descendants(status.pid) == []
        if end == "kill":
            assert await agent.containerizer.kill("shop", signal.SIGTERM)
            ended = await agent.ended("shop")
        else:
            found = await agent.destroy("shop", grace=5)
            assert found is not None
            ended = found
        assert (ended.code, ended.signal) == (None, signal.SIGTERM)
