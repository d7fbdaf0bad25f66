"""The namespace table, cell by cell, on processes at three depths; and what sharing one means for the files in it."""

from __future__ import annotations

import os
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.kernel import proc
from reconciler.spec.namespaces import TABLE, Sharing
from tests import processes
from tests.integration.runtime.world import Agent, World

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

SLEEP = ["/bin/sleep", "1000"]
MAY_MOUNT = {"capabilities": {"add": ["SYS_ADMIN"]}, "seccomp": "unconfined"}
KINDS = ("mount", "pid", "network", "uts", "ipc", "cgroup", "user")

# the cells of the table that a spec may write, at the top and below
TOP = [(kind, sharing.value) for kind in KINDS for sharing in TABLE[kind].top.allowed]
NESTED = [(kind, sharing.value) for kind in KINDS for sharing in TABLE[kind].nested.allowed]


async def inodes(agent: Agent, name: str) -> dict[str, int]:
    """Of the init, after making sure that the payload is in the very same ones and that status tells them."""
    init = proc.namespaces(await agent.pid(name))
    assert proc.namespaces(await agent.payload(name)) == init
    assert (await agent.status(name)).namespaces == init
    assert init.keys() == set(KINDS)
    return init


async def start(agent: Agent, name: str, **spec: Any) -> dict[str, int]:
    await agent.launch(name, command=SLEEP, **spec)
    return await inodes(agent, name)


@pytest.mark.vm
async def test_every_cell_of_the_table_at_the_top(world: World) -> None:
    host = proc.namespaces("self")
    of_host = {"mount": False, "pid": False, "network": True, "uts": True, "ipc": False, "cgroup": False, "user": True}
    async with world.agent() as agent:
        for kind, value in TOP:
            found = await start(agent, f"{kind}-{value}", namespaces={kind: value})
            expected = {**of_host, kind: value == "host"}
            if (kind, value) == ("network", "private"):
                expected["uts"] = False  # a private network has a name of its own
            assert {each: found[each] == host[each] for each in KINDS} == expected, (kind, value)


@pytest.mark.vm
async def test_every_cell_of_the_table_at_the_second_and_third_depth(world: World) -> None:
    everything_private = {"pid": "private", "network": "private", "uts": "private", "ipc": "private"}
    parents = {kind: TABLE[kind].nested.allowed[0] is Sharing.PARENT for kind in KINDS}
    async with world.agent() as agent:
        top = await start(agent, "shop", namespaces=everything_private)
        for kind, value in NESTED:
            second, third = f"shop.{kind}-{value}", f"shop.{kind}-{value}.below"
            found = [top] + [await start(agent, name, namespaces={kind: value}) for name in (second, third)]
            for above, below in pairwise(found):
                shared = {each: above[each] == below[each] for each in KINDS}
                assert shared == {**parents, kind: value == "parent"}, (kind, value)


@pytest.mark.parametrize(
    ("top", "middle", "bottom"), list(product(["private", "host"], ["private", "parent"], ["private", "parent"]))
)
async def test_pid_and_ipc_in_every_combination_of_three_depths(
    world: World, top: str, middle: str, bottom: str
) -> None:
    host = proc.namespaces("self")
    async with world.agent() as agent:
        one = await start(agent, "a", namespaces={"pid": top, "ipc": top})
        two = await start(agent, "a.b", namespaces={"pid": middle, "ipc": middle})
        three = await start(agent, "a.b.c", namespaces={"pid": bottom, "ipc": bottom})
    for kind in ("pid", "ipc"):
        assert (one[kind] == host[kind]) is (top == "host")
        assert (two[kind] == one[kind]) is (middle == "parent")
        assert (three[kind] == two[kind]) is (bottom == "parent")


@pytest.mark.vm
async def test_a_private_pid_namespace_lies_in_its_parents(world: World) -> None:
    def pids(pid: int) -> int:
        return len(processes.status(pid)["NSpid"].split())

    names = ("a", "a.b", "a.b.c")
    async with world.agent() as agent:
        for name in names:
            await agent.launch(name, shell="grep NSpid /proc/self/status; cat /proc/1/comm; exec sleep 100")
        inside = [len((await agent.says(name, "init")).split()) - 2 for name in names]
        outside = [pids(await agent.payload(name)) - pids(os.getpid()) for name in names]
    assert inside == [1, 1, 1], "each has a /proc of its own namespace, in which it has one pid"
    assert outside == [1, 2, 3]


async def test_a_parent_sees_the_processes_nested_in_it_and_no_one_elses(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        await agent.launch("shop.web", command=["/bin/sleep", "4711"])
        await agent.launch("shop.log", shell="cat /proc/[0-9]*/cmdline | tr '\\0' ' '", namespaces={"pid": "parent"})
        await agent.ended("shop.log")
        shared = agent.output("shop.log")
        alone = " ".join(await agent.run("shop.alone", shell="cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))
    assert "sleep 1000" in shared and "sleep 4711" in shared
    assert "sleep" not in alone and "init shop.alone" in alone


async def test_nesting_goes_sixteen_deep(world: World) -> None:
    names = [".".join(["n"] * depth) for depth in range(1, 17)]
    async with world.agent() as agent:
        pids = []
        for name in names:
            await agent.launch(name, command=SLEEP)
            pids.append((await inodes(agent, name))["pid"])
        assert len(set(pids)) == 16
        await agent.destroy("n")
        assert agent.containerizer.containers() == []


# ---- uts


async def test_a_hostname_is_seen_by_all_that_is_nested(world: World) -> None:
    ask = {"shell": "hostname"}
    async with world.agent() as agent:
        await agent.launch("shop", hostname="front")
        assert await agent.run("shop.a", **ask) == ["front"]
        await agent.launch("shop.b", command=SLEEP)
        assert await agent.run("shop.b.c", namespaces={"pid": "parent"}, **ask) == ["front"]
        assert await agent.run("named", namespaces={"uts": "private"}, **ask) == ["named"]
        assert await agent.run("net", namespaces={"network": "private"}, **ask) == ["net"]
        host = Path("/proc/sys/kernel/hostname").read_text().strip()
        assert await agent.run("plain", **ask) == [host]


# ---- network


async def test_lo_is_up_in_a_private_network_and_nothing_else_is_there(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", namespaces={"network": "private"})
        lines = await agent.run("shop.web", shell="ls /sys/class/net /proc/sys/net/ipv4/conf; ip -o addr show up")
    assert any("127.0.0.1/8" in line for line in lines)
    assert not [line for line in lines if "eth" in line and "inet" in line]


async def test_siblings_meet_on_their_parents_loopback_and_strangers_do_not(world: World) -> None:
    serve = "import socket; s = socket.create_server(('127.0.0.1', 7654)); print('up', flush=True); s.accept()"
    ask = "import socket; socket.create_connection(('127.0.0.1', 7654), 2); print('met')"
    async with world.agent() as agent:
        await agent.launch("shop", namespaces={"network": "private"})
        await agent.launch("shop.web", command=["/usr/bin/python3", "-c", serve])
        await agent.says("shop.web", "up")
        assert await agent.run("stranger", command=["/usr/bin/python3", "-c", ask]) == []
        assert await agent.run("shop.ask", command=["/usr/bin/python3", "-c", ask]) == ["met"]


# ---- ipc and /dev/shm


async def test_dev_shm_has_the_size_that_the_spec_names(world: World) -> None:
    size = "df -k --output=size,fstype /dev/shm | tail -1 | xargs; stat -c %a /dev/shm"
    async with world.agent() as agent:
        assert await agent.run("some", shell=size, namespaces={"shmSize": "3Mi"}) == ["3072 tmpfs", "1777"]
        assert (await agent.run("usual", shell=size))[0] == "65536 tmpfs"


@pytest.mark.vm
async def test_dev_shm_is_shared_with_the_ipc_namespace_down_to_the_third_depth(world: World) -> None:
    parent = {"ipc": "parent"}
    async with world.agent() as agent:
        await agent.launch("a", command=SLEEP, namespaces={"shmSize": "2Mi"})
        await agent.launch("a.b", command=SLEEP, namespaces=parent)
        write = "echo word > /dev/shm/note; ipcmk -S 1 >/dev/null; ipcs -s | grep -c 0x"
        assert await agent.run("a.b.c", shell=write, namespaces=parent) == ["1"]
        look = "cat /dev/shm/note; ipcs -s | grep -c 0x; df -k --output=size /dev/shm | tail -1"
        assert [line.strip() for line in await agent.run("a.look", shell=look, namespaces=parent)] == [
            "word",
            "1",
            "2048",
        ]
        assert await agent.run("a.other", shell="ls /dev/shm; ipcs -s | grep -c 0x") == ["0"]
        assert "note" not in " ".join(await agent.run("stranger", shell="ls /dev/shm"))


async def test_the_hosts_dev_shm_is_seen_with_the_hosts_ipc(world: World) -> None:
    device = Path("/dev/shm").stat().st_dev
    async with world.agent() as agent:
        own = await agent.run("own", shell="stat -c %d /dev/shm")
        assert await agent.run("host", shell="stat -c %d /dev/shm", namespaces={"ipc": "host"}) == [str(device)]
        await agent.launch("top", command=SLEEP, namespaces={"ipc": "host"})
        shared = await agent.run("top.nested", shell="stat -c %d /dev/shm", namespaces={"ipc": "parent"})
    assert shared == [str(device)] and own != shared


# ---- mount and cgroup


async def test_what_a_container_mounts_is_its_own(world: World) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    mount = "mount -t tmpfs mine /mnt && touch /mnt/here && ls /mnt; exec sleep 100"
    async with world.agent() as agent:
        await agent.launch("shop", shell=mount, security=MAY_MOUNT)
        await agent.says("shop", "here")
        assert "here" not in await agent.run("shop.web", shell="ls /mnt")
        assert Path("/proc/self/mountinfo").read_text() == before


async def test_our_own_directories_are_hidden_but_for_the_own_sandbox(world: World) -> None:
    look = f"find {world.root} {world.run} | sort; touch {world.root}/x {world.run}/x; touch own && ls"
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        await agent.launch("other", command=SLEEP)
        await agent.launch("shop.web", shell=look)
        await agent.ended("shop.web")
        seen = [line for line in agent.output("shop.web").splitlines() if "/" in line]
        assert "own" in agent.output("shop.web").splitlines()
        assert agent.output("shop.web", "stderr").count("Read-only file system") == 2
    sandbox = str(world.sandbox("shop.web"))
    assert all(sandbox.startswith(path) or path.startswith(sandbox) or path == str(world.run) for path in seen), seen


@pytest.mark.vm
async def test_the_cgroup_file_system_is_read_only_and_a_private_cgroup_namespace_hides_where_it_is(
    world: World,
) -> None:
    look = "cat /proc/self/cgroup; "
    look += "for d in /sys/fs/cgroup/*/; do mkdir $d/own 2>/dev/null && echo made $d; done"
    async with world.agent() as agent:
        lines = await agent.run("shop", shell=look)
        assert not [line for line in lines if line.startswith("made") or world.settings.owner in line]
        host = await agent.run("open", shell="cat /proc/self/cgroup", namespaces={"cgroup": "host"})
    assert [line for line in host if world.settings.owner in line]


async def test_a_container_holds_no_mount_of_the_runtime_directory(world: World) -> None:
    """Else what is mounted there could not be removed for as long as the container lives."""
    async with world.agent() as agent:
        await agent.launch("pinned", command=SLEEP, init=False)
        await agent.launch("later", command=SLEEP)
        await agent.payload("later")
        mounts = Path(f"/proc/{await agent.pid('later')}/mountinfo").read_text()
    assert f"{world.run}/pins" not in mounts
