"""Trees and payloads that try to reach the host: nothing is made, mounted, opened or run outside of the root.

Each is the recipe of a flaw that a container runtime had; its number stands beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import LaunchFailed, ReconcilerError, Retryable, Terminal
from reconciler.runtime.kernel.syscalls import AT_FDCWD
from tests.integration.runtime.test_exec import execute
from tests.integration.runtime.world import Agent, World

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

RENAME_EXCHANGE = 2  # linux/fs.h
SANDBOX = "/mnt/mesos/sandbox"
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


async def refused(world: World, tree: Path, match: str, **spec: Any) -> None:
    async with world.agent() as agent:
        with pytest.raises(LaunchFailed, match=match):
            await agent.launch("shop", **{"command": ["true"], "rootfs": str(tree), **spec})
        await agent.destroy("shop")


@pytest.mark.vm
@pytest.mark.parametrize("place", ["dev", "proc", "sys"])
@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
async def test_a_link_in_place_of_a_mount_point(
    world: World, tree: Path, outside: Path, place: str, absolute: bool
) -> None:
    """CVE-2026-41579, CVE-2026-47766 (dev); CVE-2019-19921, CVE-2023-27561, CVE-2025-54867 (proc, sys)."""
    (outside / "marker").rename(outside / "ptmx")
    (tree / place).symlink_to(outside if absolute else Path("../outside"))
    await refused(world, tree, f"/{place}: must be an ordinary path, but a symbolic link is in the way")
    (outside / "ptmx").rename(outside / "marker")


async def test_a_link_to_a_directory_of_the_tree_itself_is_no_proc_either(world: World, tree: Path) -> None:
    (tree / "proc").symlink_to("tmp/x")
    (tree / "tmp" / "x").mkdir()
    await refused(world, tree, "/proc: must be an ordinary path")
    assert list((tree / "tmp" / "x").iterdir()) == []


async def test_a_file_in_place_of_proc(world: World, tree: Path) -> None:
    (tree / "proc").write_text("")
    await refused(world, tree, "/proc: must be a directory, but something else is in the way")


async def test_the_trees_own_dev_null_masks_nothing(world: World, tree: Path) -> None:
    """CVE-2025-31133: a link in place of /dev/null became a writable mount of what it pointed to."""
    before = CORE_PATTERN.read_text()
    (tree / "dev").mkdir()
    (tree / "dev" / "null").symlink_to(CORE_PATTERN)
    async with world.agent() as agent:
        script = "for file in /proc/keys /proc/interrupts /proc/kcore; do echo '|/x' > $file; done; cat /proc/keys"
        assert await agent.run("shop", rootfs=str(tree), shell=script) == []
    assert CORE_PATTERN.read_text() == before


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("mnt/mesos/sandbox", "/proc/self/attr"),
        ("mnt/mesos/sandbox", "/proc"),
        ("mnt/mesos/sandbox", "../../sys/kernel"),
        ("mnt/mesos", "/proc"),
        ("mnt", "proc"),
    ],
)
async def test_the_sandbox_is_not_mounted_in_proc_or_sys(world: World, tree: Path, link: str, target: str) -> None:
    """CVE-2019-16884."""
    (tree / link).parent.mkdir(parents=True, exist_ok=True)
    (tree / link).symlink_to(target)
    await refused(world, tree, SANDBOX)


@pytest.mark.parametrize("target", ["../../../../outside", "/", "/../..", "OUTSIDE"])
async def test_the_sandbox_is_mounted_inside_wherever_links_point(
    world: World, tree: Path, outside: Path, target: str
) -> None:
    """CVE-2019-18837, CVE-2015-1335, CVE-2022-23648."""
    (tree / "outside").mkdir()
    (tree / "mnt").symlink_to(str(outside) if target == "OUTSIDE" else target)
    async with world.agent() as agent:
        with contextlib.suppress(LaunchFailed):
            assert await agent.run("shop", rootfs=str(tree), shell="pwd -P; touch mine; ls") in (
                ["/outside/mesos/sandbox", "mine"],
                ["/mesos/sandbox", "mine"],
            )


async def test_a_link_that_is_flipped_during_launches(world: World, tree: Path, outside: Path) -> None:
    """CVE-2021-30465, CVE-2024-45310: between the look and the mount a link took the directory's place."""
    (tree / "mnt" / "mesos").mkdir(parents=True)
    (tree / "evil").symlink_to(outside)
    with flipping(tree / "mnt", tree / "evil"):
        async with world.agent() as agent:
            for _ in range(25):
                with contextlib.suppress(ReconcilerError):
                    found = await agent.run("shop", rootfs=str(tree), shell="ls -d /mnt/marker; touch mine")
                    assert found == []
                await agent.destroy("shop")


@contextlib.contextmanager
def flipping(one: Path, other: Path) -> Iterator[None]:
    """Exchanges the two names as fast as it can."""
    libc, over = ctypes.CDLL(None), threading.Event()
    results: set[int] = set()

    def flip() -> None:
        while not over.is_set():
            names = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
            results.add(libc.renameat2(*names, RENAME_EXCHANGE))

    attacker = threading.Thread(target=flip)
    attacker.start()
    try:
        yield
    finally:
        over.set()
        attacker.join()
    assert results == {0}


@pytest.mark.parametrize("planted", ["containers", "containers/web"])
@pytest.mark.parametrize("nested_root", [True, False], ids=["rootfs", "host"])
async def test_a_parent_cannot_plant_its_childs_sandbox(
    world: World, tree: Path, outside: Path, planted: str, nested_root: bool
) -> None:
    spec: dict[str, Any] = {"rootfs": str(tree)} if nested_root else {}
    async with world.agent() as agent:
        script = f"mkdir -p $(dirname {planted}); ln -s {outside} {planted}; echo done; sleep 1000"
        await agent.launch("shop", rootfs=str(tree), shell=script)
        await agent.says("shop", "done")
        with pytest.raises((Terminal, Retryable, LaunchFailed), match="in the way"):
            await agent.launch("shop.web", command=["touch", "made"], user="7", **spec)
    assert outside.stat().st_uid == 0


def workdirs() -> list[str]:
    return [f"/proc/self/fd/{number}{rest}" for number in range(3, 21) for rest in ("", "/../../..")]


async def test_an_open_descriptor_is_no_working_directory(world: World, tree: Path) -> None:
    """CVE-2024-21626."""
    (tree / "wd").symlink_to("/proc/self/fd/9")
    async with world.agent() as agent:
        for place in [*workdirs(), "/wd", "/proc/self/cwd/../..", "/proc/1/root"]:
            with pytest.raises(LaunchFailed, match="workdir"):
                await agent.launch("shop", rootfs=str(tree), command=["ls", "-d", "."], workingDir=place)
            await agent.destroy("shop")


async def test_nor_is_it_one_for_a_further_process(world: World, tree: Path) -> None:
    (tree / "wd").symlink_to("/proc/self/fd/9")
    async with world.agent() as agent:
        await agent.launch("shop", rootfs=str(tree), command=["sleep", "1000"])
        for place in [*workdirs()[::7], "/wd"]:
            code, out, err = await execute(world, "shop", "ls", ".", cwd=place)
            assert (code, out) != (0, "") and "workdir" in err


@pytest.mark.vm
@pytest.mark.parametrize("init", [True, False])
async def test_no_descriptor_of_the_host_is_inherited(world: World, tree: Path, init: bool) -> None:
    """CVE-2016-9962, CVE-2024-21626 and their family."""
    async with world.agent() as agent:
        found = await agent.run("shop", rootfs=str(tree), init=init, shell="ls /proc/self/fd | wc -l")
        assert found == ["4"], "three, and the one that ls reads"
        await agent.launch("two", rootfs=str(tree), command=["sleep", "1000"])
        _, out, _ = await execute(world, "two", "ls", "/proc/self/fd")
        assert out.split() == ["0", "1", "2", "3"]


async def test_the_hosts_null_device_is_not_within_reach(world: World, tree: Path) -> None:
    before = Path("/dev/null").stat().st_mode
    async with world.agent() as agent:
        script = "chmod 0 /proc/self/fd/0; chown 7 /proc/self/fd/0; ls -l /dev/null | cut -c 1-10"
        assert await agent.run("shop", rootfs=str(tree), shell=script) == ["c---------"]
    assert Path("/dev/null").stat().st_mode == before and Path("/dev/null").stat().st_uid == 0


async def test_the_runtimes_executable_cannot_be_written_from_inside(world: World, tree: Path) -> None:
    """CVE-2019-5736, CVE-2019-0204: through /proc/PID/exe of whatever of the runtime is seen from inside."""
    interpreter = Path(sys.executable).resolve()
    before = hashlib.sha256(interpreter.read_bytes()).hexdigest()
    (tree / "entry").symlink_to("/proc/self/exe")
    (tree / "script").write_text("#!/proc/self/exe\n")
    (tree / "script").chmod(0o755)
    async with world.agent() as agent:
        for number, entry in enumerate(("/entry", "/script")):
            await tried(agent, f"x{number}", rootfs=str(tree), command=[entry], init=False)
        loop = "for n in 1 2 3; do for exe in /proc/[0-9]*/exe; do (exec 3>>$exe) && echo $exe; done; done 2>/dev/null"
        written = await agent.run("shop", rootfs=str(tree), shell=f"cp /bin/busybox /own; {loop}; true")
        own = os.open(f"/proc/{world.keeper()}/exe", os.O_PATH)
        try:
            assert os.statvfs(own).f_flag & os.ST_RDONLY, "where the keeper's executable lies is no mount to write to"
        finally:
            os.close(own)
    assert not written and hashlib.sha256(interpreter.read_bytes()).hexdigest() == before


async def tried(agent: Agent, name: str, **spec: Any) -> None:
    with contextlib.suppress(LaunchFailed):
        await agent.run(name, **spec)


async def test_nobody_else_of_the_host_reaches_what_a_container_keeps(world: World, tree: Path) -> None:
    """CVE-2021-41091: set-user-id programs made inside were there for everybody outside."""
    async with world.agent() as agent:
        await agent.run("shop", rootfs=str(tree), shell="cp /bin/busybox suid; chmod 4755 suid; chmod 777 .")
        await agent.launch("two", command=["sleep", "1000"])
    assert (world.sandbox("shop") / "suid").stat().st_mode & 0o4000
    for name in ("shop", "two"):
        assert (world.root / "containers" / name).stat().st_mode & 0o777 == 0o700
    with pytest.raises(PermissionError):
        run_as_nobody(world.sandbox("shop") / "suid")


def run_as_nobody(program: Path) -> None:
    subprocess.run([str(program), "id"], user=65534, group=65534, extra_groups=[], check=True)


async def test_a_further_process_shows_no_descriptor_of_the_host_on_its_way_in(world: World, tree: Path) -> None:
    """CVE-2016-9962: what was just entering could be looked at."""
    look = "while :; do ls -l /proc/[0-9]*/fd /proc/[0-9]*/cwd 2>/dev/null; done"
    async with world.agent() as agent:
        await agent.launch("shop", rootfs=str(tree), user="web", shell=look)
        for _ in range(8):
            assert (await execute(world, "shop", "true"))[0] == 0
        await agent.destroy("shop")
        seen = {line.partition(" -> ")[2] for line in agent.output("shop").splitlines() if " -> " in line}
    logs = {str(world.logs("shop") / stream) for stream in ("stdout", "stderr")}
    assert logs <= seen and not [path for path in seen - logs if str(world.base) in path or "cgroup" in path]


async def test_a_hostile_passwd_makes_nobody_root(world: World, tree: Path) -> None:
    """CVE-2024-40635 and its family."""
    (tree / "etc" / "passwd").write_text("web:x:-4294966296:0::/:\n2147483648:x:0:0::/:\nbig:x:4294967296:0::/:\n")
    async with world.agent() as agent:
        assert await agent.run("shop", rootfs=str(tree), shell="id -u", user="2147483648") == ["2147483648"]
        for user in ("web", "big"):
            with pytest.raises(Terminal, match=r"spec\.user"):
                await agent.launch(user, rootfs=str(tree), shell="id -u", user=user)
    (tree / "etc" / "passwd").unlink()
    os.mkfifo(tree / "etc" / "passwd")
    async with world.agent() as agent:
        with pytest.raises(Retryable, match="ordinary file"):
            await agent.launch("fifo", rootfs=str(tree), shell="id -u")
