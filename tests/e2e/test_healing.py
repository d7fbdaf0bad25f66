"""What dies comes back, whichever part of it died."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from datetime import datetime
from pathlib import Path

from tests import processes
from tests.e2e.checks import (
    Row,
    eventually,
    exited,
    instance,
    limited,
    not_restarted,
    payload,
    restarted,
    running,
    state,
    until,
)
from tests.e2e.world import World, document, sleeper

QUICK = {"initial": "100ms"}


def test_a_container_whose_first_process_is_killed_comes_back(any_world: World) -> None:
    """kill -9 of the pid that `ps` shows: a new run, nothing of the old one left."""
    any_world.write("web.yaml", sleeper("web", "400001", backoff=QUICK))
    with any_world.agent():
        before = instance(any_world, "web")
        payload(any_world, "web", ["sleep", "400001"])
        os.kill(before.pid, signal.SIGKILL)
        restarted(any_world, before)
        eventually(lambda: running(any_world, ["sleep", "400001"]) == 1, "exactly one payload runs")
        assert any_world.rows()["web"]["restarts"] == 1


def test_a_container_whose_payload_is_killed_comes_back_and_the_signal_is_told(any_world: World) -> None:
    """A death by signal is a signal, never a folded exit code."""
    any_world.write("web.yaml", sleeper("web", "400002", backoff=QUICK))
    with any_world.agent():
        before = instance(any_world, "web")
        os.kill(payload(any_world, "web", ["sleep", "400002"]).pid, signal.SIGKILL)
        restarted(any_world, before)
        exited(any_world, "web", None, signal.SIGKILL)


def test_a_killed_nested_container_comes_back_alone(world: World) -> None:
    """Its parent and sibling do not notice."""
    nested = [{"name": name, "command": ["sleep", "infinity"], "backoff": QUICK} for name in ("a", "b")]
    world.write("shop.yaml", sleeper("shop", containers=nested))
    with world.agent():
        parent, a, b = (instance(world, name) for name in ("shop", "shop.a", "shop.b"))
        os.kill(a.pid, signal.SIGKILL)
        restarted(world, a)
        not_restarted(world, parent)
        not_restarted(world, b)


def test_a_killed_parent_comes_back_with_its_whole_tree(any_world: World) -> None:
    """No child of the old tree outlives it."""
    nested = [{"name": "a", "command": ["sleep", "400003"]}]
    any_world.write("shop.yaml", sleeper("shop", backoff=QUICK, containers=nested))
    with any_world.agent():
        parent, child = instance(any_world, "shop"), instance(any_world, "shop.a")
        os.kill(parent.pid, signal.SIGKILL)
        restarted(any_world, parent)
        restarted(any_world, child)
        eventually(lambda: running(any_world, ["sleep", "400003"]) == 1, "exactly one child runs")


def test_what_a_payload_left_in_the_background_ends_with_it(any_world: World) -> None:
    """A container is the whole of its processes; the next run starts from none."""
    shell = "setsid sleep 400004 & sleep 0.2; exit 3"
    any_world.write("web.yaml", document("web", shell=shell, restartPolicy="Never"))
    with any_world.agent():
        state(any_world, "web", "Failed")
        eventually(lambda: running(any_world, ["sleep", "400004"]) == 0, "nothing of the run is left")


def test_a_crash_loop_tries_again_later_each_time(world: World) -> None:
    """CrashLoop after the second failure in a row; each wait is longer than the one before."""
    world.write("web.yaml", document("web", shell="exit 3", backoff={"initial": "200ms", "factor": 2}))
    with world.agent():
        waits: dict[int, float] = {}

        def four_waits(row: Row) -> bool:
            if row["status"] == "CrashLoop" and row["nextTry"]:
                waits.setdefault(row["restarts"], seconds(row["nextTry"]) - seconds(row["exit"]["at"]))
            return len(waits) >= 4

        until(world, "web", four_waits, "is seen to wait four times", within=20)
        lengths = [waits[restarts] for restarts in sorted(waits)]
        assert all(later > 1.3 * earlier for earlier, later in itertools.pairwise(lengths)), waits
        exited(world, "web", 3)


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def test_a_changed_spec_ends_a_crash_loop_at_once(world: World) -> None:
    """However long the wait would be."""
    world.write("web.yaml", document("web", shell="exit 3", backoff={"initial": "100ms", "factor": 600}))
    with world.agent():
        state(world, "web", "CrashLoop")
        world.rename_in("web.yaml", sleeper("web", backoff={"initial": "100ms", "factor": 600}))
        state(world, "web", "Running", within=5)


def test_running_for_long_enough_forgets_earlier_failures(world: World) -> None:
    """Else the second wait would be a minute and a half."""
    backoff = {"initial": "100ms", "factor": 900, "resetAfter": "1s"}
    world.write("web.yaml", document("web", shell="sleep 1.2; exit 3", backoff=backoff))
    with world.agent():
        until(world, "web", lambda row: row["restarts"] >= 3, "was started again three times", within=30)
        assert "CrashLoop" not in world.succeed("events", "web")


def test_retries_that_are_used_up_end_as_failed(world: World) -> None:
    """maxRetries bounds the starts after the first."""
    world.write("web.yaml", document("web", shell="exit 4", backoff={"initial": "50ms", "maxRetries": 2}))
    with world.agent():
        state(world, "web", "Failed")
        assert world.rows()["web"]["restarts"] == 2
        exited(world, "web", 4)


def test_a_command_that_does_not_exist_is_a_failed_launch_with_its_path(any_world: World) -> None:
    """Code 127, reason LaunchFailed, and the message names what was not found."""
    any_world.write("web.yaml", document("web", command=["/no/such/program"], restartPolicy="Never"))
    with any_world.agent():
        row = state(any_world, "web", "Failed")
        assert (row["exit"]["code"], row["exit"]["reason"]) == (127, "LaunchFailed")
        assert "/no/such/program" in row["message"]


def test_a_file_that_cannot_be_executed_is_a_failed_launch_of_126(world: World) -> None:
    """Code 126 tells it apart from one that is missing."""
    (world.aside / "plain").write_text("no program\n")
    world.write("web.yaml", document("web", command=[f"{world.aside}/plain"], restartPolicy="Never"))
    with world.agent():
        row = state(world, "web", "Failed")
        assert (row["exit"]["code"], row["exit"]["reason"]) == (126, "LaunchFailed")


def test_a_limit_that_somebody_changed_is_put_back_without_a_restart(world: World) -> None:
    """Written to the cgroup behind our back, or to the links of its network; the cause is told."""
    limits = {"memory": "64Mi", "pids": 50, "network": {"egress": "1Mi"}}
    connected = {"namespaces": {"network": "private"}, "networks": [{"name": "bridge"}]}
    world.write("web.yaml", sleeper("web", resources={"limits": limits}, **connected))

    def inside(*command: str) -> str:
        return world.nursery.run(["nsenter", f"--net=/proc/{before.pid}/ns/net", *command]).stdout

    with world.agent():
        before = instance(world, "web")
        assert (network := inside("ip", "-o", "address", "show", "scope", "global")) and "tbf" in inside("tc", "qdisc")
        inside("tc", "qdisc", "del", "dev", "eth0", "root")
        inside("ip", "address", "flush", "dev", "eth0")
        directory = world.rows()["web"]["cgroups"]["pids"]
        limited(world, "web", "50", "pids.max")
        Path(directory, "pids.max").write_text("max")
        limited(world, "web", "50", "pids.max", within=30)
        eventually(lambda: "tbf" in inside("tc", "qdisc"), "what it sends is limited again", within=30)
        assert inside("ip", "-o", "address", "show", "scope", "global") == network
        assert "default via" in inside("ip", "route")
        not_restarted(world, before)
    told = world.succeed("events", "web")
    for change in ("pids is limited to nothing, not to 50", "network.egress of eth0 is limited to nothing, not to 1Mi"):
        assert change in told
    assert "of the settings of its networks taken away" in told


def test_putting_back_what_somebody_takes_again_and_again_is_stalled_and_told(world: World) -> None:
    """Another program has the same cgroup in hand: it is named, not fought for ever. Once that is gone, all is well."""
    world.write("web.yaml", sleeper("web", resources={"limits": {"pids": 50}}))
    with world.agent():
        before = instance(world, "web")
        limit = Path(world.rows()["web"]["cgroups"]["pids"], "pids.max")
        fight = ["sh", "-c", f"while :; do echo 60 > {limit}; sleep 0.05; done"]
        other = world.nursery.spawn(fight, stdin=subprocess.DEVNULL)
        row = state(world, "web", "Stalled", within=120)
        assert (row["reason"], row["pid"]) == ("NoEffect", before.pid) and row["nextTry"] is not None
        assert "update was done 3 times and changed nothing" in row["message"]
        assert "pids is limited to 60, not to 50" in world.succeed("why", "web")
        other.kill()
        other.wait()
        state(world, "web", "Running", within=90)
        assert limit.read_text() == "50\n"
        not_restarted(world, before)


def test_a_process_that_somebody_moved_out_of_its_cgroup_is_moved_back(world: World) -> None:
    """Where it sits in every hierarchy, that of an `exec` too, and the limits of a cgroup that was removed behind it;
    without a restart. Only where nothing is left that could be put right is there another run."""
    world.write("web.yaml", sleeper("web", "400018", init=False, resources={"limits": {"pids": 50}}))
    world.write("lost.yaml", sleeper("lost", "400019", init=False, killPolicy={"gracePeriod": "1s"}))
    with world.agent():
        before, lost = instance(world, "web"), instance(world, "lost")
        inside = world.nursery.spawn(world.argv("exec", "web", "--", "sleep", "400021"), stdin=subprocess.DEVNULL)
        guest = payload_of_exec(world, ["sleep", "400021"])
        for pid in (before.pid, guest):
            move_out(world, "web", pid)
        move_out(world, "lost", lost.pid)
        pids = Path(world.rows()["web"]["cgroups"]["pids"])
        pids.rmdir()
        holding = Path(tracking(world.rows()["lost"]["cgroups"]))
        for directory in (holding / "_leaf", holding):
            if directory.is_dir():
                directory.rmdir()
        for directory in world.rows()["web"]["cgroups"].values():
            for pid in (before.pid, guest):
                eventually(lambda own=directory, pid=pid: holds(own, pid), f"{directory} has {pid} again", within=30)
        limited(world, "web", "50", "pids.max")
        not_restarted(world, before)
        assert inside.poll() is None
        again = restarted(world, lost, within=30)
        assert world.rows()["lost"]["restarts"] == 1 and holds(str(holding), again.pid)
        until(world, "lost", lambda row: row["exit"]["reason"] == "CgroupLost", "says why")
        assert str(holding) in world.succeed("why", "lost")
        os.kill(guest, signal.SIGKILL)
        inside.wait(10)
    assert "2 of its processes moved out of its cgroup" in world.succeed("events", "web")


def test_a_process_killed_for_want_of_memory_is_an_event_of_a_container_that_goes_on(world: World) -> None:
    """On cgroup v2 all of it ends, and starts again: memory.oom.group."""
    hungry = ["sh", "-c", "test -e fed || { touch fed; tail /dev/zero; }; exec sleep infinity"]
    world.write("web.yaml", document("web", command=hungry, resources={"limits": {"memory": "32Mi"}}))
    with world.agent():
        before = instance(world, "web")
        if (Path(tracking(world.rows()["web"]["cgroups"])) / "memory.oom.group").exists():
            until(world, "web", lambda row: row["exit"] and row["exit"]["oomKilled"], "all of it ended")
            return
        told = until(world, "web", lambda row: row["limitations"].get("cgroups/mem"), "it is told", within=30)
        assert "limit of 32Mi" in told["message"]
        assert f"  Limitation    web  {told['limitations']['cgroups/mem']}" in world.succeed("events", "web")
        not_restarted(world, before)


def tracking(cgroups: dict[str, str]) -> str:
    """The one through which all of a container is killed."""
    return cgroups.get("unified") or cgroups["freezer"]


def move_out(world: World, name: str, pid: int) -> None:
    for directory in map(Path, world.rows()[name]["cgroups"].values()):
        (directory.parents[2] / "cgroup.procs").write_text(str(pid))


def payload_of_exec(world: World, argv: list[str]) -> int:
    eventually(lambda: running(world, argv) == 1, f"{argv} runs")
    return processes.running(argv, world.nursery.processes())[0].pid


def test_what_somebody_unmounted_in_it_is_there_again(world: World) -> None:
    """By a new run, under an agent that did not see it begin; one that may mount by itself is left alone."""
    volumes = [{"type": "tmpfs", "target": "cache"}]
    agent = world.start()
    world.write("web.yaml", sleeper("web", volumes=volumes))
    world.write("free.yaml", sleeper("free", volumes=volumes, security={"capabilities": {"add": ["SYS_ADMIN"]}}))
    web, free = instance(world, "web"), instance(world, "free")
    remembered = world.runtime / "containers" / "web" / "mounts.json"
    eventually(remembered.exists, "its mounts are remembered")
    agent.kill()
    for name, each in (("web", web), ("free", free)):
        unmount = ["nsenter", f"--mount=/proc/{each.pid}/ns/mnt", "umount", f"{world.sandbox(name)}/cache"]
        subprocess.run(unmount, check=True)
    with world.agent():
        web = restarted(world, web, within=40)
        assert "/cache" in Path(f"/proc/{web.pid}/mountinfo").read_text()
        until(world, "web", lambda row: row["exit"]["reason"] == "MountLost", "says why")
        assert "cache in it" in world.succeed("why", "web")
        not_restarted(world, free)


def holds(directory: str, pid: int) -> bool:
    return any(str(pid) in file.read_text().split() for file in Path(directory).rglob("cgroup.procs"))


def test_a_name_that_fails_too_often_in_an_hour_stands_still(world: World) -> None:
    """Over the agent's restart, until its spec changes; the time of the next try is told."""
    failing = {"initial": "50ms", "max": "50ms"}
    world.write("web.yaml", document("web", command=["false"], backoff=failing))
    with world.agent("--max-restarts-per-hour", "3"):
        row = state(world, "web", "Stalled")
    assert (row["reason"], row["restarts"]) == ("RestartLimit", 2), "three failures"
    with world.agent("--max-restarts-per-hour", "3"):
        row = state(world, "web", "Stalled")
        assert row["nextTry"] is not None and row["restarts"] == 2
        world.write("web.yaml", sleeper("web", "400017", backoff=failing))
        state(world, "web", "Running")
