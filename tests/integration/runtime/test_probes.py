"""Health checks as they are made: in the container's namespaces, within their time, and leaving nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import Finding
from reconciler.runtime.kernel import proc
from reconciler.spec.policies import HealthCheck
from tests import processes
from tests.integration.runtime.world import Agent, World, until

SLEEP = ["/bin/sleep", "1000"]
FORKING = "setsid sleep 410001 & (setsid setsid sleep 410001 &) & sleep 410001"
"""Three processes: in a session of their own, double-forked, and in the foreground."""


def check(**fields: Any) -> HealthCheck:
    return HealthCheck.model_validate({"timeout": 5.0, **fields})


async def finding(agent: Agent, name: str, **fields: Any) -> Finding:
    return await agent.containerizer.check(name, check(**fields))


def left(number: str = "410001") -> list[processes.Process]:
    return processes.running(["sleep", number], processes.below(os.getpid()))


def networks_of_our_threads() -> set[int]:
    found = (proc.namespaces(f"self/task/{task}").get("network", 0) for task in processes.names("/proc/self/task"))
    return set(found) - {0}


async def healthy(agent: Agent, name: str, **fields: Any) -> Finding:
    last = Finding(False, "")
    for _ in range(200):
        last = await finding(agent, name, **fields)
        if last.healthy:
            return last
        await asyncio.sleep(0.02)
    raise AssertionError(last.seen)


@pytest.mark.root
@pytest.mark.cgroup
async def test_network_checks_are_made_in_the_containers_network(world: World) -> None:
    """The same port serves in one container and refuses in another, and on the host."""
    ours = proc.namespaces("self")["network"]
    async with world.agent() as agent:
        serve = "echo hello > index.html; exec busybox httpd -f -p 18080"
        await agent.launch("web", shell=serve, namespaces={"network": "private"})
        await agent.launch("idle", command=SLEEP, namespaces={"network": "private"})
        assert await healthy(agent, "web", tcp={"port": 18080}) == Finding(True, "connected")
        assert await finding(agent, "web", http={"port": 18080, "path": "/index.html"}) == Finding(True, "200")
        assert await finding(agent, "web", http={"port": 18080, "path": "/nothing"}) == Finding(False, "404")
        for probe in ({"tcp": {"port": 18080}}, {"http": {"port": 18080}}):
            assert await finding(agent, "idle", **probe) == Finding(False, "connection refused")
        with socket.socket() as host:
            assert host.connect_ex(("127.0.0.1", 18080)) != 0
        await until("no thread of ours is left there", lambda: networks_of_our_threads() == {ours})


async def test_a_network_check_says_what_it_saw(either: World) -> None:
    """A server of ours on the host's network, which the container shares."""
    answers: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answers[0] == b"silence":
            await reader.read()
        else:
            writer.write(answers[0])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "::1", 0)
    port = server.sockets[0].getsockname()[1]
    async with either.agent() as agent, server:
        await agent.launch("web", command=SLEEP)
        for answer, healthy_, seen in (
            (b"HTTP/1.1 200 OK\r\n\r\nfine", True, "200"),
            (b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n", True, "302"),
            (b"HTTP/1.1 500 Oh\r\n\r\n", False, "500"),
            (b"SSH-2.0-x\r\n", False, "the answer is not HTTP: 'SSH-2.0-x'"),
            (b"", False, "the connection was closed without an answer"),
        ):
            answers[:] = [answer]
            assert await finding(agent, "web", http={"port": port}) == Finding(healthy_, seen)
        answers[:] = [b"silence"]
        began = time.monotonic()
        late = await finding(agent, "web", http={"port": port}, timeout=0.2)
        assert late == Finding(False, "timed out after 0.2 s") and time.monotonic() - began < 2


async def test_a_command_is_judged_by_its_exit_and_keeps_what_it_said(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("web", command=SLEEP, env={"WORD": "sesame"}, killPolicy={"gracePeriod": 0.1})

        async def run(*line: str) -> Finding:
            return await finding(agent, "web", command=line)

        assert await run("/bin/sh", "-c", 'test "$WORD" = sesame') == Finding(True, "exited with code 0")
        said = await run("/bin/sh", "-c", "echo out; echo err >&2; exit 3")
        assert said == Finding(False, "exited with code 3: out err")
        assert await run("/bin/sh", "-c", "kill -9 $$") == Finding(False, "killed by SIGKILL")
        much = await run("/bin/sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end; exit 1")
        assert much.seen.endswith("x end") and len(much.seen) < 600
        missing = await run("/no/such/thing")
        assert not missing.healthy and "/no/such/thing" in missing.seen and "No such file" in missing.seen


async def test_a_command_that_hangs_is_ended_with_all_it_started(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("web", command=SLEEP)
        hung = await finding(agent, "web", command=["/bin/sh", "-c", f"echo busy; {FORKING}"], timeout=1.0)
        assert hung == Finding(False, "timed out after 1 s and was ended: busy")
        assert left() == []
        done = await finding(agent, "web", command=["/bin/sh", "-c", FORKING.rpartition("& ")[0] + "& exit 0"])
        assert done.healthy and left() == []
        assert (await agent.status("web")).running


@pytest.mark.root
@pytest.mark.cgroup
async def test_a_command_is_in_all_namespaces_and_cgroups_of_its_container(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("web", command=SLEEP, namespaces={"network": "private", "uts": "private"})
        long = agent.containerizer.check("web", check(command=["sleep", "410002"], timeout=60.0))
        task = asyncio.ensure_future(long)
        guest = (await until("it runs", lambda: left("410002")))[0].pid
        inside = await agent.pid("web")
        assert proc.namespaces(guest) == proc.namespaces(inside)

        def places(pid: int) -> str:
            return Path(f"/proc/{pid}/cgroup").read_text()

        assert places(guest) == places(inside)
        task.cancel()
        await asyncio.wait({task})
        await until("a check that nobody waits for any more is ended", lambda: left("410002") == [])


async def test_a_check_under_way_neither_holds_up_nor_outlives_its_container(either: World) -> None:
    async with either.agent() as agent:
        await agent.launch("web", command=SLEEP)
        command = ["/bin/sh", "-c", FORKING]
        under_way = asyncio.ensure_future(agent.containerizer.check("web", check(command=command, timeout=60.0)))
        await until("it runs", lambda: len(left()) == 3)
        began = time.monotonic()
        await agent.destroy("web")
        assert time.monotonic() - began < 5
        with pytest.raises((Retryable, OSError)):
            await asyncio.wait_for(under_way, 10)
        await until("nothing of it is left", lambda: left() == [])
        with pytest.raises(Retryable):
            await finding(agent, "web", command=["true"])


async def test_an_agent_that_dies_leaves_no_check_behind(either: World) -> None:
    """The keeper sees to it: with the connection goes what was started over it."""
    async with either.agent() as agent:
        await agent.launch("web", command=SLEEP)
        first = await agent.pid("web")
        command = check(command=["/bin/sh", "-c", FORKING], timeout=60.0)
        under_way = asyncio.ensure_future(agent.containerizer.check("web", command))
        await until("it runs", lambda: len(left()) == 3)
        agent.containerizer._inner._containerizers[0]._shop.launcher.link.close()  # type: ignore[attr-defined]
        await until("nothing of it is left", lambda: left() == [])
        under_way.cancel()
        await asyncio.wait({under_way})
        assert proc.is_running(first, proc.read_stat(first).start)  # type: ignore[union-attr]
