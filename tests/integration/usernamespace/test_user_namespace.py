"""Containers in a user namespace of their own: ids that are nobody's on the host, files that keep their owners."""

from __future__ import annotations

import fcntl
import os
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import LaunchFailed, Retryable
from reconciler.runtime.isolators.namespaces_user import IDS, POOL
from reconciler.runtime.kernel import mountinfo, proc, syscalls
from tests import processes
from tests.integration.runtime.test_exec import execute
from tests.integration.runtime.world import Agent, World
from tests.integration.terminal.conftest import Sit

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

SLEEP = ["sleep", "1000"]
OWN: dict[str, Any] = {"namespaces": {"user": "private"}}
MAY_ALL: dict[str, Any] = {"capabilities": {"add": ["ALL"]}, "seccomp": "unconfined"}
NS_GET_USERNS = 0xB701  # linux/nsfs.h
OWNED = ("mount", "pid", "network", "uts", "ipc", "cgroup")


def ids(pid: int) -> range:
    """What this process's user namespace has of the host's ids, its user and group map being the same."""
    users, groups = (Path(f"/proc/{pid}/{name}").read_text().split() for name in ("uid_map", "gid_map"))
    assert users == groups and users[0] == "0"
    return range(int(users[1]), int(users[1]) + int(users[2]))


def owner(pid: int, kind: str) -> int:
    """The inode of the user namespace that this namespace of the process belongs to."""
    file = os.open(f"/proc/{pid}/ns/{syscalls.NAMESPACES[kind][1]}", os.O_RDONLY)
    user = fcntl.ioctl(file, NS_GET_USERNS)
    try:
        return os.fstat(user).st_ino
    finally:
        os.close(user)
        os.close(file)


async def start(agent: Agent, name: str, **spec: Any) -> dict[str, int]:
    """Of its init; its payload is in the same ones, and they belong to its user namespace or are the host's."""
    await agent.launch(name, command=SLEEP, **spec)
    host, init = proc.namespaces("self"), await agent.pid(name)
    found = proc.namespaces(init)
    payload = await agent.payload(name) if spec.get("init", True) else init
    assert proc.namespaces(payload) == found == (await agent.status(name)).namespaces
    assert {kind: owner(init, kind) for kind in OWNED if found[kind] != host[kind]} == {
        kind: found["user"] for kind in OWNED if found[kind] != host[kind]
    }
    assert int(processes.status(payload)["Uid"].split()[0]) == ids(init)[0], "root inside"
    return found


async def test_every_container_has_65536_ids_that_are_nobody_elses(world: World) -> None:
    async with world.agent() as agent:
        for name in ("one", "two"):
            await start(agent, name, **OWN)
        await start(agent, "one.below")
        one, two, below = [ids(await agent.pid(name)) for name in ("one", "two", "one.below")]
        assert one == below and not set(one) & set(two) and len(one) == len(two) == IDS
        assert POOL[0] <= min(one[0], two[0]) and max(one[-1], two[-1]) <= POOL[-1]


HOST = {"pid": "host", "network": "host", "uts": "host", "ipc": "host", "cgroup": "host"}
PARENT = {"pid": "parent", "ipc": "parent", "cgroup": "parent"}
BELOW = {"pid": "private", "ipc": "private", "cgroup": "private"}


@pytest.mark.parametrize("top", [{"network": "private"}, HOST, {}], ids=["network", "host", "usual"])
@pytest.mark.parametrize("rooted", [True, False], ids=["rootfs", "hosts-tree"])
async def test_nested_containers_share_it_whatever_else_they_share(
    world: World, tree: Path, top: dict[str, str], rooted: bool
) -> None:
    """At three depths, with a root file system below a host's tree and the other way round."""
    root: dict[str, Any] = {"rootfs": str(tree)}
    async with world.agent() as agent:
        for number, (middle, bottom) in enumerate([(PARENT, BELOW), (BELOW, PARENT), (PARENT, PARENT)]):
            names = [f"a{number}", f"a{number}.b", f"a{number}.b.c"]
            specs = [{"namespaces": top | {"user": "private"}}, {"namespaces": middle}, {"namespaces": bottom}]
            rooting = [root if rooted == bool(depth % 2) else {} for depth in range(3)]
            each = zip(names, specs, rooting, strict=True)
            found = [await start(agent, name, **spec, **more) for name, spec, more in each]
            for (above, below), sharing in zip(pairwise(found), (middle, bottom), strict=True):
                assert above["user"] == below["user"] and above["network"] == below["network"]
                assert above["uts"] == below["uts"] and above["mount"] != below["mount"]
                for kind in PARENT:
                    assert (above[kind] == below[kind]) is (sharing[kind] == "parent"), kind
            await agent.destroy(names[0])


@pytest.mark.parametrize("rooted", [True, False], ids=["rootfs", "hosts-tree"])
async def test_files_keep_their_owners_both_ways(world: World, tree: Path, rooted: bool) -> None:
    os.chown(tree / "tmp", 1000, 1001)
    script = "stat -c %u:%g {0}/tmp /etc/passwd; touch mine; chown 5:6 mine; id -u; stat -c %u:%g ."
    async with world.agent() as agent:
        more = {"rootfs": str(tree)} if rooted else {}
        shell = script.format("" if rooted else tree) + ("; touch /made" if rooted else "")
        lines = await agent.run("shop", shell=shell, **OWN, **more)
        await agent.run("web", shell="touch mine", user="1000:1001", **OWN, **more)
    assert lines == [*(["1000:1001", "0:0"] if rooted else ["65534:65534"] * 2), "0", "0:0"]
    on_disk = {name: (world.sandbox(name) / "mine").stat() for name in ("shop", "web")}
    assert {name: (each.st_uid, each.st_gid) for name, each in on_disk.items()} == {"shop": (5, 6), "web": (1000, 1001)}
    assert not rooted or (tree / "made").stat().st_uid == 0


async def test_a_nested_containers_files_keep_theirs_too(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, **OWN)
        assert await agent.run("shop.web", shell="touch mine; stat -c %u mine", user="7:8") == ["7"]
    assert (world.sandbox("shop.web") / "mine").stat().st_uid == 7


# ---- what its root cannot do


async def test_its_root_is_nobody_to_the_hosts_files(world: World, base: Path) -> None:
    secret, public = base / "secret", base / "public"
    for path, mode in ((secret, 0o600), (public, 0o644)):
        path.write_text("the host's\n")
        path.chmod(mode)
    script = f"cat {secret}; cat {public}; echo x > {public}; rm {public}; chmod 777 {public}; mkdir {base}/made; true"
    async with world.agent() as agent:
        assert await agent.run("shop", shell=script, security=MAY_ALL, **OWN) == ["the host's"]
        said = agent.output("shop", "stderr").splitlines()
    assert len(said) == 5 and all("denied" in line or "not permitted" in line for line in said), said
    assert public.read_text() == "the host's\n" and not (base / "made").exists()


async def test_all_its_privileges_end_at_its_namespaces(world: World, tree: Path) -> None:
    """With every capability and no filter: the locks on its mounts hold, and the host's name, mounts and kernel
    settings stay as they are; what is its own it may change."""
    os.mknod(tree / "disk", 0o020666, os.makedev(1, 5))
    name = Path("/proc/sys/kernel/hostname").read_text()
    script = """
    mount -o remount,bind,dev / || echo locked; head -c 1 /disk || echo dead; mknod /tmp/disk c 1 5 || echo refused
    umount /proc/sys; echo 1 > /proc/sys/kernel/sysrq || echo kept; hostname other
    mount -t tmpfs mine /tmp && echo mine
    """
    async with world.agent() as agent:
        for sharing, renamed in (({"uts": "host"}, False), ({"uts": "private"}, True)):
            spec = {"namespaces": {"user": "private", **sharing}, "security": MAY_ALL, "rootfs": str(tree)}
            assert await agent.run(f"uts-{sharing['uts']}", shell=script, **spec) == [
                *("locked", "dead", "refused", "kept", "mine")
            ]
            said = agent.output(f"uts-{sharing['uts']}", "stderr")
            assert ("hostname" not in said) is renamed
    assert Path("/proc/sys/kernel/hostname").read_text() == name
    assert not [mount for mount in mountinfo.read() if mount.source == "mine" or mount.target.startswith(str(tree))]


async def test_a_device_that_belongs_to_root_on_the_disk_works_for_nobody(world: World, base: Path) -> None:
    """Id-mapped, the container's root is its owner; privileged, no device rule stands in the way."""
    places = [world.sandbox("shop"), base / "shared"]
    for place in places:
        place.mkdir(parents=True)
        os.mknod(place / "disk", 0o020600, os.makedev(1, 5))
    volume = {"type": "hostPath", "source": str(places[1]), "target": "shared"}
    script = "for disk in disk shared/disk; do stat -c %u $disk; head -c 1 $disk || echo dead; done"
    async with world.agent() as agent:
        spec = {"security": {"privileged": True}, "volumes": [volume], **OWN}
        assert await agent.run("shop", shell=script, **spec) == ["0", "dead", "0", "dead"]


async def test_it_cannot_signal_or_read_the_hosts_processes_although_it_sees_them(world: World) -> None:
    victim = os.getpid()
    script = f"test -d /proc/{victim} && echo seen; kill -0 {victim} || echo refused; cat /proc/{victim}/environ; true"
    async with world.agent() as agent:
        spec = {"namespaces": {"user": "private", "pid": "host"}, "security": MAY_ALL}
        assert await agent.run("shop", shell=script, **spec) == ["seen", "refused"]


async def test_its_root_reads_nothing_of_its_init_whatever_it_may(world: World) -> None:
    """An init's program and memory are in the eyes of the host's user namespace."""
    peek = "for f in mem environ maps exe; do (head -c1 /proc/1/$f >/dev/null) 2>&1 && echo read $f; done; echo done"
    async with world.agent() as agent:
        lines = await agent.run("shop", shell=f"readlink /proc/1/exe; {peek}", **OWN, security=MAY_ALL)
    assert lines[-1] == "done" and not [line for line in lines if line.startswith(("read", "/"))], lines


async def test_default_privileges_hold_in_it(world: World) -> None:
    async with world.agent() as agent:
        await start(agent, "shop", init=False, **OWN)
        facts = processes.status(await agent.pid("shop"))
    assert (facts["CapBnd"], facts["CapEff"]) == ("00000000a80425fb",) * 2
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")


# ---- further processes


@pytest.mark.parametrize("rooted", [True, False], ids=["rootfs", "hosts-tree"])
async def test_exec_a_terminal_and_a_debug_container_are_in_it(
    world: World, tree: Path, sit: Sit, rooted: bool
) -> None:
    more = {"rootfs": str(tree)} if rooted else {}
    look = ["sh", "-c", "cat /proc/self/uid_map; id -u; touch made; stat -c %u made"]
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, user="1000:1001", **OWN, **more)
        inside = Path(f"/proc/{await agent.pid('shop')}/uid_map").read_text().split()
        code, out, _ = await execute(world, "shop", *look)
        assert (code, out.split()) == (0, [*inside, "1000", "1000"])
        operator = sit(world, "exec", "-it", "shop", "--", "sh", "-c", "stat -c 'it is %u' $(tty)")
        await operator.sees("it is 1000")
        assert await operator.ended() == 0
        debug = {"class": "debug", "parent": "shop", "restartPolicy": "Never"}
        assert (await agent.run("shop.look", command=look, **debug))[0].split() == inside
        tty = await agent.run("tty", shell="stat -c %u:%g $(tty)", user="1000:1001", tty=True, **OWN, **more)
        assert [line.strip() for line in tty] == ["1000:5"]


# ---- allocation


async def test_the_range_outlives_the_agent_and_is_freed_by_destroy(world: World) -> None:
    """With room for one: whoever else wants it has to wait, whichever agent is asked, until it is gone."""
    world.settings = replace(world.settings, user_ids=f"{POOL[0]}-{POOL[0] + IDS - 1}")
    async with world.agent() as agent:
        await start(agent, "one", **OWN)
        with pytest.raises(Retryable, match="--user-ids"):
            await agent.launch("two", command=SLEEP, **OWN)
    os.kill(world.keeper(), signal.SIGKILL)
    async with world.agent() as agent:
        assert world.checkpoint("one").plan["user"]["first"] == ids(await agent.pid("one"))[0] == POOL[0]
        with pytest.raises(Retryable, match="--user-ids"):
            await agent.launch("two", command=SLEEP, **OWN)
        assert (await start(agent, "one.below"))["user"] == proc.namespaces(await agent.pid("one"))["user"]
        await agent.destroy("one")
        await start(agent, "two", **OWN)


# ---- refusals


async def test_a_file_system_that_cannot_be_id_mapped_is_named(world: World, tree: Path) -> None:
    (tree / "below").mkdir()
    syscalls.mount("proc", str(tree / "below"), "proc")
    try:
        async with world.agent() as agent:
            with pytest.raises(LaunchFailed, match=rf"{tree}: .* cannot be id-mapped"):
                await agent.launch("shop", rootfs=str(tree), command=SLEEP, **OWN)
    finally:
        syscalls.umount(str(tree / "below"))


async def test_a_state_directory_that_its_ids_cannot_reach_is_named(world: World, tree: Path, base: Path) -> None:
    base.chmod(0o700)
    async with world.agent() as agent:
        with pytest.raises(Retryable, match=rf"because {base} is closed"):
            await agent.launch("shop", command=SLEEP, **OWN)
        assert await agent.run("rooted", rootfs=str(tree), shell="touch x; pwd", **OWN) == ["/mnt/mesos/sandbox"]
