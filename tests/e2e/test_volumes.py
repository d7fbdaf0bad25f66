"""Volumes, variables from files, and what a change of their content does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.runtime.kernel import mountinfo
from tests import processes
from tests.e2e.checks import eventually, instance, payload, plan_is_empty, state, until
from tests.e2e.world import World, document, sleeper

SECRET = "hunter2-is-only-for-the-payload"


def mounted(pid: int) -> dict[str, mountinfo.Mount]:
    """By target; of two on one place the upper one."""
    return {mount.target: mount for mount in mountinfo.read(pid)}


def memory(pid: int) -> bytes:
    """All that the process could have written to."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb") as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if match is not None:
                start, end = (int(part, 16) for part in match.groups())
                file.seek(start)
                found.append(file.read(end - start))
    return b"".join(found)


@pytest.mark.root
@pytest.mark.cgroup
def test_each_kind_of_volume_is_where_it_was_asked_for_and_nowhere_else(world: World) -> None:
    """In the container's own mount namespace: the host sees none of them, and only a named one is left."""
    data = world.base / "data"
    data.mkdir()
    (data / "conf").write_text("of the host")
    volumes = [
        {"type": "hostPath", "source": str(data), "target": "/mnt", "readOnly": True},
        {"type": "hostPath", "source": str(data / "conf"), "target": "etc/conf"},
        {"type": "tmpfs", "target": "scratch", "size": "1Mi", "mode": "0710"},
        {"type": "volume", "source": "kept", "target": "kept"},
        {"type": "sandboxPath", "source": "own", "target": "again"},
    ]
    spool = {"type": "sandboxPath", "scope": "parent", "source": "spool", "target": "spool"}
    inner = {"name": "inner", "volumes": [spool], "shell": "echo from inner > spool/file; exec sleep 810001"}
    line = "cat /mnt/conf etc/conf; echo once >> kept/file; touch own/x; ls again; exec sleep 810002"
    world.write("shop.yaml", document("shop", user="1234:1235", volumes=volumes, shell=line, containers=[inner]))
    world.apply()
    pid = payload(world, "shop", ["sleep", "810002"]).pid
    sandbox, seen = str(world.sandbox("shop")), mounted(pid)
    assert "ro" in seen["/mnt"].options
    assert seen[f"{sandbox}/scratch"].fstype == "tmpfs"
    assert {"nosuid", "nodev"} <= seen[f"{sandbox}/scratch"].options
    assert "size=1024k" in seen[f"{sandbox}/scratch"].super_options
    assert all(not mount.peers for target, mount in seen.items() if target.startswith(sandbox + "/"))
    assert world.succeed("logs", "shop") == "of the hostof the hostx\n"
    status = Path(f"/proc/{pid}/root{sandbox}/scratch").stat()
    assert (status.st_mode & 0o7777, Path(f"{sandbox}/own").stat().st_uid) == (0o710, 1234)
    payload(world, "shop.inner", ["sleep", "810001"])
    assert Path(f"{sandbox}/spool/file").read_text() == "from inner\n"
    ours = [mount.target for mount in mountinfo.read() if mount.target.startswith(str(world.base))]
    assert not ours, "nothing of it is mounted on the host"
    plan_is_empty(world)
    world.succeed("destroy", "--all")
    kept = world.root / "volumes" / "kept" / "file"
    assert (kept.read_text(), kept.stat().st_uid) == ("once\n", 1234)


@pytest.mark.root
@pytest.mark.cgroup
def test_a_secret_is_the_payloads_alone(world: World) -> None:
    """Looked for in every file of ours, what we print, and the memory, environment and arguments of our processes."""
    file = world.aside / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    volume = {"type": "secret", "source": str(file), "target": "keys/pass"}
    env = {"PASS": {"secretFile": str(file)}, "PLAIN": {"fromFile": "plain"}}
    world.write("plain", "to be seen\n")
    world.write("web.yaml", sleeper("web", "810003", env=env, volumes=[volume], user="1234:1235"))
    with world.agent():
        pid = payload(world, "web", ["sleep", "810003"]).pid
        assert processes.environ(pid)["PASS"] == SECRET
        assert processes.environ(pid)["PLAIN"] == "to be seen"
        inside = Path(f"/proc/{pid}/root{world.sandbox('web')}/keys/pass")
        status = inside.stat()
        assert inside.read_text() == SECRET + "\n"
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o400, 1234, 1235)
        mount = mounted(pid)[f"{world.sandbox('web')}/keys/pass"]
        assert mount.fstype == "ramfs"
        assert {"ro", "nosuid", "nodev", "noexec"} <= mount.options
        shown = world.succeed("inspect", "web") + world.succeed("inspect", "--launch-plan", "web")
        shown += world.succeed("events") + world.succeed("status", "web") + world.log()
        assert SECRET not in shown
        assert "to be seen" in shown
        own = [instance(world, "web").pid, *(keeper.pid for keeper in world.keepers())]
        assert len(own) == 2
        for each in own:
            assert SECRET.encode() not in memory(each), f"process {each}: {processes.cmdline(each)}"
            assert SECRET not in " ".join([*processes.cmdline(each), *processes.environ(each).values()])
            held = [str(fd.readlink()) for fd in Path(f"/proc/{each}/fd").iterdir()]
            assert not [what for what in held if "memfd" in what and "memfd:init" not in what], (
                "the static init is no secret"
            )
    written = [path for top in (world.root, world.runtime) for path in top.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert (world.root / "content.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.root
@pytest.mark.cgroup
def test_a_changed_content_restarts_who_asked_for_it(world: World) -> None:
    """Within the time of a listing, with the cause; a file that is gone restarts nobody and says why."""
    world.write("token", "one\n")
    conf = world.aside / "conf"
    conf.write_text("1")
    volume = {"type": "hostPath", "source": str(conf), "target": "conf", "readOnly": True}
    world.write("follows.yaml", sleeper("follows", env={"TOKEN": {"fromFile": "token"}}, volumes=[volume]))
    world.write("stays.yaml", sleeper("stays", volumes=[{**volume, "restartOn": "never"}]))
    with world.agent():
        stays, first = instance(world, "stays"), instance(world, "follows")
        new = world.aside / "conf.new"
        new.write_text("2")
        new.rename(conf)
        eventually(lambda: not first.alive, "the old instance ends", within=5)
        until(world, "follows", lambda row: row["status"] == "Running" and row["pid"] != first.pid, "runs anew")
        assert "the content of volumes[0].source changed" in world.succeed("why", "follows") + world.log()
        second = instance(world, "follows")
        assert (Path(f"/proc/{second.pid}/root{world.sandbox('follows')}") / "conf").read_text() == "2"
        (world.specs / "token").unlink()
        row = until(world, "follows", lambda row: "token" in row["message"], "says that its file is gone")
        assert (row["status"], row["pid"]) == ("Running", second.pid)
        world.write("token", "one\n")
        until(world, "follows", lambda row: not row["message"].startswith("/"), "has nothing to complain about")
        assert second.alive
        world.write("token", "two\n")
        until(world, "follows", lambda row: row["status"] == "Running" and row["pid"] != second.pid, "runs anew")
        third = instance(world, "follows")
        below = [third.pid, *(each.pid for each in processes.below(third.pid))]
        assert any(processes.environ(pid).get("TOKEN") == "two" for pid in below)
        assert stays.alive, "it never asked to follow the content"
        plan_is_empty(world)


@pytest.mark.root
@pytest.mark.cgroup
def test_limits_per_process_and_kernel_parameters(world: World) -> None:
    """In force in the container, refused where they would be the host's or out of reach; the host keeps its own."""
    before = {name: Path(name).read_text() for name in ("/proc/sys/kernel/msgmax", "/proc/sys/net/core/somaxconn")}
    limits = {"nofile": {"soft": 100, "hard": 200}, "core": {"soft": 0, "hard": "unlimited"}}
    own = {"kernel.msgmax": "9000", "net.core.somaxconn": "77"}
    line = "ulimit -Sn; ulimit -Hn; cat /proc/sys/kernel/msgmax /proc/sys/net/core/somaxconn; exec sleep 810004"
    world.write("web.yaml", document("web", namespaces={"network": "private"}, rlimits=limits, sysctls=own, shell=line))
    world.apply()
    payload(world, "web", ["sleep", "810004"])
    assert world.succeed("logs", "web").split() == ["100", "200", "9000", "77"]
    assert {name: Path(name).read_text() for name in before} == before
    world.write("far.yaml", sleeper("far", rlimits={"nofile": {"soft": 1, "hard": 2**40}}))
    world.apply(code=1)
    row = state(world, "far", "Blocked")
    assert row["reason"] == "NotOnThisLauncher"
    assert "CAP_SYS_RESOURCE" in row["message"] or "nr_open" in row["message"]


def test_without_mounts_a_sandbox_path_is_a_link_and_all_else_is_refused(user_world: World) -> None:
    """As in Mesos's filesystem/posix."""
    spool = {"type": "sandboxPath", "scope": "parent", "source": "spool", "target": "in/spool"}
    inner = {"name": "inner", "volumes": [spool], "shell": "echo hello > in/spool/file; exec sleep 810005"}
    env = {"PASS": {"secretFile": "token"}}
    user_world.write("token", SECRET)
    user_world.write("shop.yaml", sleeper("shop", "810006", env=env, containers=[inner]))
    user_world.write("not.yaml", sleeper("not", volumes=[{"type": "tmpfs", "target": "x"}]))
    user_world.apply(code=1)
    payload(user_world, "shop.inner", ["sleep", "810005"])
    assert processes.environ(payload(user_world, "shop", ["sleep", "810006"]).pid)["PASS"] == SECRET
    eventually((user_world.sandbox("shop") / "spool" / "file").exists, "the parent has it")
    row = state(user_world, "not", "Blocked")
    assert row["reason"] == "NotOnThisLauncher"
    assert "spec.volumes[0].type: tmpfs" in row["message"]
