"""The posix launcher where it differs: no root, no namespaces, no cgroups, and only descent to go by."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.kernel import proc
from tests import processes
from tests.e2e.unprivileged import NOBODY, make_command
from tests.integration.runtime.world import World, until

SLEEP = ["/bin/sleep", "1000"]


async def test_it_shares_what_the_spec_leaves_open_and_says_so(posix: World) -> None:
    async with posix.agent() as agent:
        status = await agent.launch("job", command=SLEEP)
        assert status.message.startswith("posix launcher: shares the host's mount, pid")
        assert status.namespaces == proc.namespaces("self") and status.cgroups == {}


async def test_whoever_changes_its_session_and_group_does_not_get_away(posix: World) -> None:
    script = "setsid sh -c 'setsid sleep 1000 & sleep 1000' & setsid -f setsid -f sleep 1000; echo away; sleep 1000"
    async with posix.agent() as agent:
        await agent.launch("job", shell=script)
        await agent.says("job", "away")
        init = await agent.pid("job")
        everybody: list[int] = await until("all run", lambda: len(found := proc.descendants(init)) >= 5 and found)
        await agent.destroy("job")
        assert not any(map(processes.alive, everybody))


async def test_a_forking_payload_is_ended_whole(posix: World) -> None:
    async with posix.agent() as agent:
        await agent.launch("job", shell="while :; do setsid -f sleep 0.2; sleep 0.01; done")
        init = await agent.pid("job")
        await until("it forks", lambda: len(proc.descendants(init)) > 5)
        await agent.destroy("job")
        assert proc.descendants(init) == [] and not processes.alive(init)


async def test_without_an_init_the_direct_descendants_are_ended(posix: World) -> None:
    async with posix.agent() as agent:
        await agent.launch("job", shell="sleep 1000 & sleep 1000", init=False)
        payload = await agent.pid("job")
        everybody: list[int] = await until("both run", lambda: len(found := proc.descendants(payload)) == 2 and found)
        await agent.destroy("job")
        await until("they are dead", lambda: not any(map(processes.alive, [payload, *everybody])), 1)


async def test_a_launch_cancelled_at_the_fork_leaves_no_blocked_child(posix: World) -> None:
    """Without a cgroup the child is known by nobody but the keeper, and the agent lives on."""
    async with posix.agent() as agent:
        await agent.launch("other", command=SLEEP)
        keeper = posix.keeper()
        for pause in range(0, 12):
            launching = asyncio.create_task(agent.launch("job", command=SLEEP))
            await asyncio.sleep(pause / 1000)
            launching.cancel()
            await asyncio.gather(launching, return_exceptions=True)
            await agent.destroy("job")
        children = [each for each in processes.below(keeper) if each.parent == keeper]
        await until("only one container is left", lambda: len([c for c in children if processes.alive(c.pid)]) == 1)


@pytest.mark.root
def test_an_ordinary_user_needs_nobodys_help(base: Path) -> None:
    command = make_command(base / "command")
    script = Path(shutil.copy(Path(__file__).with_name("as_nobody.py"), base))
    script.chmod(0o644)
    home = base / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    found = subprocess.run(
        [command.with_name("python"), script, home],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    said: dict[str, Any] = json.loads(found.stdout)
    assert (said["uid"], said["launcher"]) == (NOBODY, ["posix", "not root"])
    assert said["output"] == [str(NOBODY), str(home / "root/containers/job/sandbox")] and said["code"] == 3
    assert "only root" in said["user"] and "posix" in said["namespaces"] and "posix" in said["message"]
    assert said["privileges"] == ["NoNewPrivs:", "1", "Seccomp:", "2"] and "unconfined" in said["security"]
    assert said["left"] == [] and not (home / "run").exists()
    assert [each for each in processes.below(os.getpid()) if "sleep" in processes.cmdline(each.pid)] == []
