"""A further process in a running container: where it lands, how it ends, and whom it leaves alone."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import LaunchFailed, Retryable
from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher.client import exec_in
from tests import processes
from tests.integration.runtime.world import World, until

SLEEP = ["/bin/sleep", "1000"]
CLIENT = """
import json, sys
from pathlib import Path
from reconciler.runtime.launcher.client import exec_in
from reconciler.runtime.mesos.checkpoint import Checkpoints
told = json.loads(sys.argv[1])
run = Checkpoints(Path(told["dir"])).read(told["name"])
sys.exit(exec_in(run, Path(told["dir"]), told["argv"], env=told["env"], cwd=told["cwd"]))
"""


def client(world: World, name: str, argv: list[str], **options: Any) -> subprocess.Popen[str]:
    told = {"dir": str(world.run), "name": name, "argv": argv, "env": {}, "cwd": None, **options}
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
    )


async def execute(world: World, name: str, *argv: str, stdin: str = "", **options: Any) -> tuple[int, str, str]:
    process = client(world, name, list(argv), **options)
    out, err = await asyncio.to_thread(process.communicate, stdin, 20 * processes.PATIENCE)
    return process.returncode, out, err


@pytest.mark.root
@pytest.mark.cgroup
@pytest.mark.vm
async def test_it_is_in_all_namespaces_and_cgroups_of_the_container(world: World) -> None:
    everything = {"network": "private", "uts": "private"}
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, namespaces=everything)
        await agent.launch("shop.web", command=SLEEP, namespaces={"pid": "parent"})
        for name in ("shop", "shop.web"):
            guest = client(world, name, ["/bin/sh", "-c", "echo up; exec sleep 1000"])
            assert guest.stdout is not None and guest.stdout.readline() == "up\n"
            found = await until("the guest is there", lambda: guest_of(world))
            assert proc.namespaces(found) == proc.namespaces(await agent.pid(name))
            assert processes.cgroups(found) == processes.cgroups(await agent.payload(name))
            guest.kill()
            guest.communicate()
            await until("the guest went with its client", lambda: guest_of(world) == 0)
            assert (await agent.status(name)).running


def guest_of(world: World) -> int:
    """The child of the keeper that is no container's first process; 0 before it has begun."""
    keeper = world.keeper()
    found = [each.pid for each in processes.below(keeper) if each.parent == keeper]
    return next((pid for pid in found if processes.cmdline(pid) == ("sleep", "1000")), 0)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -9 $$", 137)]
)
async def test_its_exit_code_is_passed_through_and_the_container_stays(either: World, script: str, code: int) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        pid = await agent.payload("shop")
        assert (await execute(either, "shop", "/bin/sh", "-c", script))[0] == code
        assert await agent.payload("shop") == pid and (await agent.status("shop")).running


async def test_streams_environment_and_directory_are_as_asked(either: World) -> None:
    script = 'read line; echo "$line $ASKED $GIVEN"; pwd; echo err >&2'
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP, env={"GIVEN": "spec"})
        options: dict[str, Any] = {"env": {"ASKED": "asked"}, "stdin": "typed\n"}
        found = await execute(either, "shop", "/bin/sh", "-c", script, **options)
        assert found == (0, f"typed asked spec\n{either.sandbox('shop')}\n", "err\n")
        assert (await execute(either, "shop", "pwd", cwd="/tmp"))[1] == "/tmp\n"


@pytest.mark.root
@pytest.mark.cgroup
async def test_it_runs_as_the_containers_user(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, user="65534:12")
        assert (await execute(world, "shop", "id", "-u"))[1] == "65534\n"


@pytest.mark.parametrize(("command", "code"), [("/no/such", 127), ("/etc/passwd", 126)])
async def test_what_cannot_be_started_is_told(either: World, command: str, code: int) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        with pytest.raises(LaunchFailed, match=command) as failed:
            await asyncio.to_thread(exec_in, either.checkpoint("shop"), either.run, [command], env={}, cwd=None)
        assert failed.value.code == code and (await agent.status("shop")).running


async def test_it_needs_a_container_that_runs(either: World) -> None:
    async with either.agent() as agent:
        await agent.run("job", shell="exit 0")
        with pytest.raises(Retryable, match="not running"):
            await asyncio.to_thread(exec_in, either.checkpoint("job"), either.run, ["true"], env={}, cwd=None)


async def test_it_works_without_an_agent_and_even_without_a_keeper(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        pid = await agent.pid("shop")
    assert (await execute(either, "shop", "echo", "no agent"))[1] == "no agent\n"
    await either.kill_keeper()
    assert (await execute(either, "shop", "echo", "no keeper"))[1] == "no keeper\n"
    assert processes.alive(pid)
    async with either.agent() as agent:
        assert await agent.pid("shop") == pid


async def test_the_containers_end_ends_it(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        guest = client(either, "shop", ["/bin/sh", "-c", "echo up; sleep 1000"])
        assert guest.stdout is not None and guest.stdout.readline() == "up\n"
        await agent.destroy("shop")
        assert await asyncio.to_thread(guest.wait, 10) == 128 + signal.SIGKILL
        await asyncio.to_thread(guest.communicate, None, 10)


async def test_many_at_once_each_get_their_own_answer(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        codes = [execute(either, "shop", "/bin/sh", "-c", f"exit {number}") for number in range(6)]
        assert [found[0] for found in await asyncio.gather(*codes)] == list(range(6))
        assert (await agent.status("shop")).running
