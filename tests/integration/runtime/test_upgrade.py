"""A keeper that becomes one of other code in place, and one that cannot."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.runtime.launcher import channel, connection, pump
from reconciler.runtime.launcher.connection import Caller, KeeperError
from tests import processes
from tests.integration.runtime.conftest import Package
from tests.integration.runtime.test_keeper import Kept, Process
from tests.integration.runtime.world import World, until, wait_for
from tests.integration.terminal.operator import Line

GO = "while [ ! -e go ]; do sleep 0.01; done; exit 7"
ECHO = 'while read line; do echo "got:$line"; done'
SLOW = "import time\ntime.sleep(0.7)\n"  # at the import of the new code: what happens meanwhile happens in between


def runs(pid: int, package: Path) -> bool:
    return str(package) in processes.cmdline(pid)


async def test_containers_of_the_old_code_live_and_end_under_the_new(
    either: World, package: Package, as_agent_of: Callable[[Path], str]
) -> None:
    async with either.agent() as agent:
        await agent.launch("shop", command=["/bin/sleep", "1000"])
        await agent.launch("shop.web", shell=GO)
        await agent.launch("bare", shell=GO, init=False)
        await agent.launch("talk", shell=ECHO, tty=True)
        pids = {name: await agent.pid(name) for name in agent.containerizer.containers()}
    keeper = either.keeper()
    newer = package(keeper=("import gc\n", "import gc\n" + SLOW))
    code = as_agent_of(newer)
    containerizer = either.build()
    recovered = asyncio.create_task(containerizer.recover())
    await until("the new image is on its way", lambda: runs(either.keeper(), newer))
    (either.sandbox("bare") / "go").touch()
    await until("it is dead before anybody reaps it", lambda: not processes.alive(pids["bare"]))
    with Line(either, "talk") as line:
        line.send(pump.INPUT, b"one\n")
        await line.hears(b"got:one")
    await recovered
    try:
        assert either.keeper() == keeper
        with channel.connect(str(either.run), "keeper.sock", timeout=5) as sock:
            assert Caller(sock).hello("exec")["code"] == code
        bare = await containerizer.wait("bare")
        assert bare is not None and bare.code == 7
        (either.sandbox("shop.web") / "go").touch()
        web = await containerizer.wait("shop.web")
        assert web is not None and web.code == 7
        for name in ("shop", "talk"):
            status = await containerizer.status(name)
            assert status is not None and status.pid == pids[name] and status.running
        await containerizer.destroy("talk", grace=0)
        killed = await containerizer.destroy("shop", grace=5)
        assert killed is not None and killed.signal == signal.SIGTERM
    finally:
        await containerizer.close()


async def test_a_pump_and_its_terminal_go_over_too(
    either: World, package: Package, as_agent_of: Callable[[Path], str]
) -> None:
    async with either.agent() as agent:
        await agent.launch("talk", shell=ECHO, tty=True)
        keeper, init = either.keeper(), await agent.pid("talk")
    newer = package(keeper=("import gc\n", "import gc\n\n"))
    as_agent_of(newer)
    async with either.agent() as agent:
        assert either.keeper() == keeper and runs(keeper, newer)
        mover = next(each for each in processes.below(keeper) if "pump talk" in processes.cmdline(each.pid))
        os.kill(mover.pid, signal.SIGKILL)
        await until("the pump is dead", lambda: not processes.alive(mover.pid))
        with Line(either, "talk") as line:
            line.send(pump.INPUT, b"two\n")
            await line.hears(b"got:two")
        assert await agent.pid("talk") == init


BROKEN = [
    pytest.param({"keeper": ("import gc\n", "import gc(\n")}, "SyntaxError", id="code"),
    pytest.param({"handover": ("VERSION = 1", "VERSION = 0")}, "knows up to 0", id="older"),
    pytest.param(None, "ImportError", id="nothing there"),
]


@pytest.mark.parametrize(("change", "words"), BROKEN)
async def test_code_that_does_not_work_leaves_the_keeper_as_it_was(
    posix: World, package: Package, as_agent_of: Callable[[Path], str], change: dict[str, tuple[str, str]], words: str
) -> None:
    async with posix.agent() as agent:
        await agent.launch("job", shell=GO)
    keeper = posix.keeper()
    broken = package(**change) if change else posix.base / "nowhere"
    for room in ("kernel", "launcher/init", "docker/executor"):
        (broken / "reconciler" / "runtime" / room).mkdir(parents=True, exist_ok=True)
    as_agent_of(broken)
    async with posix.agent() as agent:
        assert posix.keeper() == keeper and not runs(keeper, broken)
        (note,) = agent.containerizer.notes().values()
        assert words in note and str(keeper) in note
        (posix.sandbox("job") / "go").touch()
        assert (await agent.ended("job")).code == 7
        assert await agent.run("next", shell="echo works") == ["works"]


async def test_code_that_fails_only_once_it_is_the_keeper_costs_a_keeper_and_no_container(
    posix: World, package: Package, as_agent_of: Callable[[Path], str]
) -> None:
    async with posix.agent() as agent:
        await agent.launch("job", shell=GO)
        pid = await agent.pid("job")
    keeper = posix.keeper()
    broken = package(keeper=("    handover.take_descriptors(state)\n", "    raise OSError('broken')\n"))
    as_agent_of(broken)
    async with posix.agent() as agent:
        assert posix.keeper() not in (0, keeper) and await agent.pid("job") == pid
        (posix.sandbox("job") / "go").touch()
        assert (await agent.ended("job")).code == 7


async def test_an_older_keeper_that_cannot_upgrade_is_spoken_to_in_its_version(posix: World, package: Package) -> None:
    old = package(keeper=("VERSION = 4", "VERSION = 2"))
    posix.run.mkdir(mode=0o700)
    connection.start(posix.run, old)
    async with posix.agent() as agent:
        assert runs(posix.keeper(), old)
        (note,) = agent.containerizer.notes().values()
        assert "too old" in note
        assert await agent.run("job", shell="echo works") == ["works"]


async def test_a_keeper_with_no_version_in_common_is_left_alone(posix: World, package: Package) -> None:
    strange = package(keeper=("VERSION = 4", "VERSION = OLDEST = 9"), child=("NOT_FOUND = 127", "NOT_FOUND = 127 "))
    file = strange / "reconciler" / "runtime" / "launcher" / "keeper.py"
    file.write_text(file.read_text().replace("\nOLDEST = 2", "\n"))
    posix.run.mkdir(mode=0o700)
    connection.start(posix.run, strange)
    async with posix.agent() as agent:
        (note,) = agent.containerizer.notes().values()
        assert "speaks versions 9 to 9" in note and "we speak 2 to 4" in note
        assert runs(posix.keeper(), strange)


# ---- what a keeper has in hand


@pytest.fixture
def kept(base: Path) -> Iterator[Kept]:
    made = Kept(base)
    yield made
    made.caller.call("end")
    made.caller.sock.close()
    wait_for("the keeper is gone", lambda: not made.alive(), 5)


def upgrade(caller: Caller, package: Path | None = None) -> dict[str, object]:
    with connection.upgrading(package) as (fds, fields):
        return caller.call("upgrade", fds, **fields)[0]


def test_blocked_children_and_guests_go_over_with_their_clients(kept: Kept, package: Package) -> None:
    blocked = kept.fork(["/bin/sh", "-c", "exit 3"])
    other = kept.connect()
    guest = Process(kept, other, ["/bin/sh", "-c", "sleep 0.2; exit 5"], transient=True, init=False)
    guest.release()
    orphan = kept.connect()
    doomed = Process(kept, orphan, ["/bin/sleep", "100"])
    newer = package(keeper=("import gc\n", "import gc\n" + SLOW))
    assert upgrade(kept.caller, newer)["ok"] and runs(kept.pid, newer)
    orphan.sock.close()
    wait_for("a child without its client is ended", lambda: not doomed.alive())
    blocked.release()
    assert blocked.ended().status == (str(3 << 8), "0")
    event, _ = other.receive()
    assert (event["event"], event["status"]) == ("exit", 5 << 8)
    other.sock.close()


def test_it_holds_the_same_descriptors_limits_and_lock_as_before(kept: Kept) -> None:
    running = kept.run("/bin/sleep", "100")
    kept.caller.hello("agent")

    def facts() -> tuple[list[str], str, str]:
        limits = Path(f"/proc/{kept.pid}/limits").read_text()
        links = sorted(Path(f"/proc/{kept.pid}/fd/{fd}").readlink().name.split(":")[0] for fd in descriptors())
        return links, limits, processes.status(kept.pid)["SigBlk"]

    def descriptors() -> list[str]:
        return processes.names(f"/proc/{kept.pid}/fd")

    before, inode = facts(), (kept.directory / "keeper.sock").stat().st_ino
    for _ in range(3):
        upgrade(kept.caller)
    assert facts() == before and (kept.directory / "keeper.sock").stat().st_ino == inode
    connection.start(kept.directory)  # says nothing: the lock is held
    assert kept.caller.hello("agent")["pid"] == kept.pid
    child = kept.run("/bin/sh", "-c", "ulimit -n > limit").ended()
    running.signal(signal.SIGTERM)
    running.ended()
    assert child.status[0] == "0"


def test_a_senseless_upgrade_is_refused(kept: Kept) -> None:
    with pytest.raises(KeeperError):
        kept.caller.call("upgrade", command=["x"])
    with Path("/dev/null").open("rb") as null, pytest.raises(KeeperError):
        kept.caller.call("upgrade", {"exe": null.fileno()}, command=["x"])
    assert kept.run("/bin/true").ended().status == ("0", "0")
