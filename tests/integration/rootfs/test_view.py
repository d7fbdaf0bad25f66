"""What a container with a root file system sees: its own tree, a full /proc, /sys and /dev, and nothing of the host."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import LaunchFailed
from reconciler.runtime.kernel import syscalls
from tests.integration.runtime.test_exec import execute
from tests.integration.runtime.world import World

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

SANDBOX = "/mnt/mesos/sandbox"


async def lines(world: World, tree: Path, shell: str, name: str = "shop", **spec: Any) -> list[str]:
    """What a container prints, on both streams."""
    async with world.agent() as agent:
        return await agent.run(name, rootfs=str(tree), shell=f"exec 2>&1; {shell}", **spec)


async def mounted(world: World, tree: Path, **spec: Any) -> dict[str, tuple[str, list[str]]]:
    """Target → (type, options); of several at one place the last counts."""
    found = [line.split() for line in await lines(world, tree, "cat /proc/mounts", **spec)]
    return {fields[1]: (fields[2], fields[3].split(",")) for fields in found}


@pytest.mark.vm
async def test_it_sees_its_own_tree_and_begins_in_its_sandbox(world: World, tree: Path) -> None:
    found = await lines(world, tree, "echo /*; pwd; echo $MESOS_SANDBOX $HOME; touch mine")
    assert found == ["/bin /dev /etc /mnt /proc /root /sys /tmp", SANDBOX, f"{SANDBOX} /root"]
    assert (world.sandbox("shop") / "mine").is_file()


@pytest.mark.vm
async def test_the_whole_set_of_kernel_file_systems_is_there(world: World, tree: Path) -> None:
    found = await mounted(world, tree)
    types = {target: fstype for target, (fstype, _) in found.items()}
    expected = {"/proc": "proc", "/sys": "sysfs", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}
    assert types | expected == types and types["/dev/mqueue"] == "mqueue"
    for target in ("/sys", "/sys/fs/cgroup", "/proc/sys", "/proc/irq", "/proc/bus", "/sys/firmware"):
        assert target not in found or "ro" in found[target][1], f"{target} can be written to"
    assert {"nosuid", "nodev", "noexec"} <= set(found["/proc"][1])
    assert not any(str(world.root) in target or str(tree) in target for target in found)


async def test_the_devices_of_a_container_work_and_have_everybodys_mode(world: World, tree: Path) -> None:
    script = """
    head -c 2 /dev/zero | od -An -tx1; echo lost > /dev/null; echo x > /dev/full; head -c 8 /dev/urandom | wc -c
    ls -l /dev/null /dev/tty | tr -s ' ' | cut -d ' ' -f 1,5,6; readlink /dev/fd; readlink /dev/ptmx; ls /dev/pts
    ls -ld /dev /dev/shm | cut -c 1-10
    """
    found = [line.strip() for line in await lines(world, tree, script)]
    assert found[0] == "00 00" and found[1].endswith("No space left on device")
    assert found[2:5] == ["8", "crw-rw-rw- 1, 3", "crw-rw-rw- 5, 0"]
    assert found[5:] == ["/proc/self/fd", "pts/ptmx", "ptmx", "drwxr-xr-x", "drwxrwxrwt"]


@pytest.mark.parametrize("place", ["/dev", "/dev/shm", "/tmp", SANDBOX])
async def test_a_device_that_is_made_inside_does_not_work(world: World, tree: Path, place: str) -> None:
    found = await lines(world, tree, f"mknod {place}/made c 1 5; head -c 1 {place}/made; echo $?")
    assert "denied" in found[-2] and found[-1] == "1"


async def test_what_the_kernel_tells_of_the_host_is_masked(world: World, tree: Path) -> None:
    script = "wc -c < /proc/interrupts; wc -c < /proc/keys; ls /sys/firmware /proc/acpi | grep -v : ; echo end"
    assert [line for line in await lines(world, tree, script) if line] == ["0", "0", "end"]


async def test_what_steers_the_host_cannot_be_written(world: World, tree: Path) -> None:
    files = "/proc/sys/kernel/hostname /proc/sysrq-trigger /sys/power/state /proc/irq/x"
    found = await lines(world, tree, f"for file in {files}; do echo b > $file; done")
    assert len(found) == 4 and all("Read-only" in line or "can't create" in line for line in found)


@pytest.mark.vm
async def test_its_limits_are_found_where_programs_look_and_cannot_be_lifted(world: World, tree: Path) -> None:
    script = """
    cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null
    for place in . memory unified; do test -d $place && touch $place/made; done
    """
    found = await lines(world, tree, script, resources={"limits": {"memory": "64Mi"}})
    assert found[0] == str(64 * 1024 * 1024)
    assert len(found) > 1 and all("Read-only file system" in line for line in found[1:])


async def test_other_containers_cgroups_are_out_of_sight(world: World, tree: Path) -> None:
    found = await lines(world, tree, "find /sys/fs/cgroup -type d; cat /proc/self/cgroup")
    assert not any(world.settings.owner in line for line in found)


async def test_shared_memory_has_its_size_and_goes_with_the_ipc_namespace(world: World, tree: Path) -> None:
    async with world.agent() as agent:
        root = str(tree)
        await agent.launch("shop", rootfs=root, command=["sleep", "1000"], namespaces={"shmSize": "3Mi"})
        touch = "touch /dev/shm/$0; ls /dev/shm; df -k /dev/shm | tail -n 1"
        shared, own = {"namespaces": {"ipc": "parent"}}, {"namespaces": {"ipc": "private"}}
        one = await agent.run("shop.one", rootfs=root, command=["sh", "-c", touch, "one"], **shared)
        two = await agent.run("shop.two", command=["sh", "-c", touch, "two"], **shared)
        three = await agent.run("shop.three", rootfs=root, command=["sh", "-c", touch, "three"], **own)
    assert one[0] == "one" and one[1].split()[1] == "3072"
    assert two[:2] == ["one", "two"] and three[0] == "three"


@pytest.mark.vm
async def test_a_read_only_root_leaves_the_sandbox_writable(world: World, tree: Path) -> None:
    script = "touch /x; touch /etc/x; touch mine /dev/shm/x /dev/x && echo fine"
    found = await lines(world, tree, script, security={"readOnlyRootfs": True})
    assert [line.rpartition(": ")[2] for line in found] == ["Read-only file system", "Read-only file system", "fine"]
    assert (tree / "mnt/mesos/sandbox").is_dir() and (world.sandbox("shop") / "mine").exists()


@pytest.fixture
def sealed(tree: Path) -> Any:
    """Mounts the tree read-only on itself."""
    mounts = []

    def seal() -> Path:
        subprocess.run(["mount", "--bind", str(tree), str(tree)], check=True)
        mounts.append(tree)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(tree)], check=True)
        return tree

    yield seal
    for place in mounts:
        subprocess.run(["umount", str(place)], check=True)


async def test_a_tree_that_cannot_be_written_to_is_used_when_the_mount_points_are_there(
    world: World, tree: Path, sealed: Any
) -> None:
    for directory in ("proc", "sys", "dev", "mnt/mesos/sandbox"):
        (tree / directory).mkdir(parents=True)
    assert await lines(world, sealed(), "pwd; touch mine; ls") == [SANDBOX, "mine"]


async def test_a_tree_that_can_neither_be_written_to_nor_has_them_says_what_to_do(world: World, sealed: Any) -> None:
    with pytest.raises(LaunchFailed, match=r"/proc: it is not there, and cannot be made: .* read-only") as caught:
        await lines(world, sealed(), "true")
    assert caught.value.code == 126


async def test_users_are_those_of_the_tree(world: World, tree: Path) -> None:
    script = "id -u; id -g; id -G; echo $HOME"
    assert await lines(world, tree, script, user="web") == ["1000", "1001", "1001 2000", "/home/web"]
    assert (await lines(world, tree, script, name="two", user="nobody"))[0] == "4321"
    assert await lines(world, tree, script, name="three", user="77:88") == ["77", "88", "88", "/"]
    assert world.sandbox("shop").stat().st_uid == 1000


async def test_the_working_directory_lies_in_the_tree(world: World, tree: Path) -> None:
    (tree / "link").symlink_to("/tmp")
    assert await lines(world, tree, "pwd", workingDir="/link") == ["/tmp"]
    with pytest.raises(LaunchFailed, match="workdir /home: No such file"):
        await lines(world, tree, "pwd", name="two", workingDir="/home")


async def test_the_command_is_looked_up_inside(world: World, tree: Path) -> None:
    (tree / "bin" / "python3").write_text("#!/bin/sh\necho from inside\n")
    (tree / "bin" / "python3").chmod(0o755)
    async with world.agent() as agent:
        assert await agent.run("shop", rootfs=str(tree), command=["python3"]) == ["from inside"]
        with pytest.raises(LaunchFailed) as caught:
            await agent.launch("two", rootfs=str(tree), command=["/usr/bin/env"])
    assert caught.value.code == 127


@pytest.mark.vm
async def test_each_of_a_family_sees_its_own_tree_or_the_hosts(world: World, tree: Path) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", rootfs=str(tree), command=["sleep", "1000"])
        inside = ["sh", "-c", "test -d /usr && echo host || echo own; ps -o pid,args | grep -c 'slee[p]'"]
        parents = {"namespaces": {"pid": "parent"}}
        assert await agent.run("shop.a", rootfs=str(tree), command=inside, **parents) == ["own", "1"]
        assert await agent.run("shop.b", rootfs=str(tree), command=inside) == ["own", "0"]
        assert (await agent.run("shop.c", command=inside, **parents))[0] == "host"
        await agent.launch("plain", command=["sleep", "1000"])
        assert await agent.run("plain.a", rootfs=str(tree), command=inside, **parents) == ["own", "1"]


@pytest.mark.vm
async def test_a_further_process_sees_what_the_container_sees(world: World, tree: Path) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", rootfs=str(tree), command=["sleep", "1000"], user="web")
        code, out, err = await execute(world, "shop", "sh", "-c", "echo /*; pwd; id -u; ls /proc/self/fd | wc -l")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["/bin /dev /etc /mnt /proc /root /sys /tmp", SANDBOX, "1000", "4"], (
        "three, and the one that ls reads"
    )


async def test_what_the_host_mounts_later_stays_out(world: World, tree: Path) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", rootfs=str(tree), command=["sleep", "1000"])
        syscalls.mount("later", str(tree / "tmp"), "tmpfs")
        try:
            (tree / "tmp" / "seen").touch()
            _, out, _ = await execute(world, "shop", "ls", "/tmp")
        finally:
            syscalls.umount(str(tree / "tmp"))
    assert out == ""
