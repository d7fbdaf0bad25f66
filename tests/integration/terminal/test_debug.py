"""Containers of class debug: a further process in its parent's world, once."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.runtime.kernel import proc
from reconciler.states import Reason
from tests import processes
from tests.integration.runtime.world import World, until
from tests.integration.terminal.conftest import Sit

pytestmark = [pytest.mark.root, pytest.mark.cgroup]
SLEEP = "exec sleep 1000"


def debug(parent: str, **more: Any) -> dict[str, Any]:
    return {"class": "debug", "parent": parent, "restartPolicy": "Never", **more}


async def test_it_sees_its_parents_processes_files_and_environment(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=["/bin/sleep", "1000"], namespaces={"network": "private"})
        await agent.launch("shop.web", shell=f"echo text > mine; {SLEEP}", env={"GIVEN": "by web"}, user="65534:12")
        script = "cat mine; echo $GIVEN $ADDED; pwd; id -u; tr '\\0' ' ' </proc/2/cmdline"
        lines = await agent.run("shop.web.look", **debug("shop.web", shell=script, env={"ADDED": "more"}))
        assert lines == ["text", "by web more", str(world.sandbox("shop.web")), "65534", "sleep 1000 "]
        assert not world.sandbox("shop.web.look").exists()


@pytest.mark.vm
async def test_all_its_namespaces_are_its_parents_and_its_cgroup_is_below(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", shell=SLEEP, namespaces={"network": "private"})
        await agent.launch("shop.web", shell=SLEEP)
        await agent.launch("shop.web.look", **debug("shop.web", shell=SLEEP))
        look, web = await agent.pid("shop.web.look"), await agent.pid("shop.web")
        assert proc.namespaces(look) == proc.namespaces(web)
        assert (await agent.status("shop.web.look")).namespaces == proc.namespaces(web)
        for hierarchy, path in (await agent.status("shop.web")).cgroups.items():
            assert (await agent.status("shop.web.look")).cgroups[hierarchy] == f"{path}/look"


@pytest.mark.parametrize("security", [{}, {"privileged": True}, {"capabilities": {"drop": ["ALL"]}}])
async def test_its_privileges_are_its_parents(world: World, security: dict[str, Any]) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", shell=SLEEP, security=security)
        await agent.launch("shop.look", **debug("shop", shell=SLEEP))
        found = [processes.status(await agent.payload(name)) for name in ("shop", "shop.look")]
        for line in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp"):
            assert found[0][line] == found[1][line], line


@pytest.mark.vm
async def test_its_own_limits_count_below_its_parents(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", shell=SLEEP, resources={"limits": {"memory": 256 << 20}})
        limits = {"limits": {"memory": 64 << 20}}
        await agent.launch("shop.look", **debug("shop", shell=SLEEP, resources=limits))
        hog = "x=$(head -c 200000000 /dev/zero | tr '\\0' x)"
        await agent.destroy("shop.look")
        await agent.launch("shop.look", **debug("shop", shell=hog, resources=limits))
        assert (await agent.ended("shop.look")).oom_killed
        assert (await agent.status("shop")).running


async def test_in_a_root_file_system_it_sees_that(world: World, tree: Any) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", rootfs=str(tree), command=["/bin/sleep", "1000"])
        lines = await agent.run("shop.look", **debug("shop", shell="echo /*; pwd"))
        assert "/lib" not in lines[0] and "/mnt" in lines[0] and lines[1] == "/mnt/mesos/sandbox"


@pytest.mark.vm
async def test_it_ends_with_its_parent_and_its_parent_not_with_it(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", shell="sleep 1000; exit 3")
        ended = await agent.run("shop.one", **debug("shop", shell="exit 5"))
        assert ended == [] and (await agent.ended("shop.one")).code == 5 and (await agent.status("shop")).running
        await agent.launch("shop.two", **debug("shop", shell=SLEEP))
        pid = await agent.pid("shop.two")
        processes_of = proc.descendants(await agent.pid("shop"))
        assert pid not in processes_of
        await agent.containerizer.kill("shop", 9)
        assert (await agent.ended("shop.two")).reason is Reason.PARENT_ENDED
        await until("it is dead", lambda: not processes.alive(pid))


async def test_it_can_have_a_terminal_to_attach_to(world: World, sit: Sit) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", shell=SLEEP)
        await agent.launch("shop.look", **debug("shop", command=["/bin/sh", "-i"], tty=True, env={"PS1": "look>"}))
        operator = sit(world, "attach", "shop.look")
        await until("it is raw", lambda: operator.is_raw)
        operator.type(b"echo in $((40+2))\r")
        await operator.sees("in 42")
        operator.type(b"exit 9\r")
        assert await operator.ended() == 0
        assert (await agent.ended("shop.look")).code == 9
