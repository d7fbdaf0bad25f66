"""Containers on a Docker Engine, beside native ones, under one agent: the same spec, the same behaviour."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import engine, processes
from tests.e2e.checks import (
    eventually,
    exited,
    gone,
    instance,
    message_contains,
    not_restarted,
    payload,
    plan_is_empty,
    restarted,
    running,
    state,
    until,
)
from tests.e2e.on_engine import boxed, crew_of, executor, executors, inspected, live_on, private_bytes
from tests.e2e.world import CHECKOUT, World, sleeper

pytestmark = [pytest.mark.root, pytest.mark.docker]


@pytest.fixture
def world(request: pytest.FixtureRequest, nursery: processes.Nursery, server: engine.Server) -> Iterator[World]:
    yield from live_on(request, nursery, server)


def test_docker_and_native_containers_converge_side_by_side(world: World, server: engine.Server) -> None:
    """Dropped together, edited, deleted; each by its own containerizer, with a second plan that is empty."""
    world.write("web.yaml", boxed("web", labels={"tier": "front"}, env={"MODE": "a"}))
    world.write("native.yaml", sleeper("native"))
    with world.agent():
        web, native = instance(world, "web"), instance(world, "native")
        assert world.rows()["web"]["type"] == "docker"
        said = inspected(server, world, "web")
        assert said["State"]["Pid"] == web.pid and "MODE=a" in said["Config"]["Env"]
        assert (said["Config"]["Labels"]["reconciler.name"], said["Config"]["Labels"]["tier"]) == ("web", "front")
        plan_is_empty(world)
        world.write("web.yaml", boxed("web", env={"MODE": "b"}))
        web = restarted(world, web, by="env.MODE")
        not_restarted(world, native)
        world.delete("web.yaml")
        gone(world, "web", web)
        not_restarted(world, native)


def test_limits_change_in_place(world: World, server: engine.Server) -> None:
    world.write("web.yaml", boxed("web", resources={"limits": {"memory": "64Mi", "cpus": 0.5, "pids": 50}}))
    with world.agent():
        web = instance(world, "web")
        host = inspected(server, world, "web")["HostConfig"]
        assert (host["Memory"], host["CpuQuota"], host["PidsLimit"]) == (64 << 20, 50_000, 50)
        world.write("web.yaml", boxed("web", resources={"limits": {"memory": "96Mi", "cpus": 1, "pids": 60}}))

        def changed() -> bool:
            host = inspected(server, world, "web")["HostConfig"]
            return (host["Memory"], host["CpuQuota"], host["PidsLimit"]) == (96 << 20, 100_000, 60)

        eventually(changed, "the engine has the new limits")
        not_restarted(world, web)


def test_what_ends_comes_back_whoever_ended_it(world: World, server: engine.Server) -> None:
    """By itself, killed, stopped and removed with the engine's own means; each time one new instance."""
    world.write("web.yaml", boxed("web"))
    world.write("job.yaml", boxed("job", "sh", "-c", "exit 3", restartPolicy="Never"))
    with world.agent():
        exited(world, "job", 3)
        web = instance(world, "web")
        os.kill(web.pid, signal.SIGKILL)
        web = restarted(world, web)
        exited(world, "web", None, signal.SIGKILL)
        server.api.stop(inspected(server, world, "web")["Id"], timeout=0)
        web = restarted(world, web)
        server.api.remove_container(inspected(server, world, "web")["Id"], force=True)
        restarted(world, web)
        assert [name for name in server.named() if name.endswith("-web")] != []


def test_an_agent_that_is_killed_disturbs_nothing_and_finds_all_again(world: World) -> None:
    world.write("web.yaml", boxed("web"))
    with world.agent() as agent:
        web = instance(world, "web")
        agent.kill()
    assert world.rows()["web"]["pid"] == web.pid, "ps sees it without an agent"
    with world.agent():
        not_restarted(world, web)
        plan_is_empty(world)
        assert world.rows()["web"]["restarts"] == 0


def test_an_engine_that_is_away_makes_its_containers_unknown_and_stops_nothing_else(
    world: World, server: engine.Server
) -> None:
    """Restarted: what runs goes on, native ones are looked after meanwhile."""
    world.write("web.yaml", boxed("web"))
    with world.agent():
        web = instance(world, "web")
        server.stop()
        try:
            message_contains(world, "web", "does not answer", within=20)
            world.write("native.yaml", sleeper("native"))
            instance(world, "native")
            assert web.alive
        finally:
            server.start()
        state(world, "web", "Running", within=20)
        not_restarted(world, web)
        assert world.rows()["web"]["restarts"] == 0


def test_an_engine_that_is_paused_holds_up_nothing_else(world: World, server: engine.Server) -> None:
    """It takes every connection and answers none; what is asked of it meanwhile is done once it goes on."""
    world.write("web.yaml", boxed("web"))
    with world.agent():
        web = instance(world, "web")
        server.pause()
        try:
            world.write("native.yaml", sleeper("native"))
            native = instance(world, "native")
            os.kill(native.pid, signal.SIGKILL)
            native = restarted(world, native)
            world.write("late.yaml", boxed("late"))
            world.delete("native.yaml")
            gone(world, "native", native)
            assert web.alive and world.rows()["web"]["pid"] == web.pid
        finally:
            server.go_on()
        instance(world, "late", within=30)
        not_restarted(world, web)
        assert (world.rows()["web"]["restarts"], world.rows()["late"]["restarts"]) == (0, 0)


def test_each_container_has_an_executor_that_is_small_and_is_replaced(world: World) -> None:
    """Below 5 MB of its own; killed, by itself and with its keeper, another takes its place, and one alone."""
    world.write("web.yaml", boxed("web"))
    with world.agent():
        web = instance(world, "web")
        first = executor(world, "web")
        assert private_bytes(first.pid) < 5_000_000
        os.kill(first.pid, signal.SIGKILL)
        second = executor(world, "web", other_than=first)
        for keeper in world.keepers():
            os.kill(keeper.pid, signal.SIGKILL)
        os.kill(second.pid, signal.SIGKILL)
        executor(world, "web", other_than=second)
        not_restarted(world, web)
        world.delete("web.yaml")
        gone(world, "web", web)
        eventually(lambda: executors(world, "web") == [], "it went with its container")


def test_how_one_ended_is_known_although_it_was_removed_while_no_agent_ran(world: World, server: engine.Server) -> None:
    """Its keeper gone too; by reading verbs without an agent as by the next one."""
    until_told = "while [ ! -e /mnt/mesos/sandbox/go ]; do sleep 0.1; done; exit 7"
    world.write("job.yaml", boxed("job", "sh", "-c", until_told, restartPolicy="Never"))
    with world.agent() as agent:
        instance(world, "job")
        own = executor(world, "job")
        agent.kill()
    for keeper in world.keepers():
        os.kill(keeper.pid, signal.SIGKILL)
    id = inspected(server, world, "job")["Id"]
    (world.sandbox("job") / "go").touch()
    eventually(lambda: not own.alive, "its executor is done")
    server.api.remove_container(id)
    assert (row := world.rows()["job"])["exit"] is not None and row["exit"]["code"] == 7, row
    with world.agent():
        exited(world, "job", 7)
        state(world, "job", "Failed")


def test_a_grace_that_an_agent_began_is_over_in_time_without_it(world: World) -> None:
    """It is killed by then, though it ignores the signal and no agent runs; the next one waits no second grace."""
    stubborn = boxed(
        "web", "sh", "-c", "trap '' TERM; while true; do sleep 0.2; done", killPolicy={"gracePeriod": "2s"}
    )
    world.write("web.yaml", stubborn)
    with world.agent() as agent:
        web = instance(world, "web")
        executor(world, "web")
        world.delete("web.yaml")
        state(world, "web", "Stopping")
        eventually(lambda: '"killAt": null' not in (world.root / "docker" / "web").read_text(), "it is written down")
        agent.kill()
    eventually(lambda: not web.alive, "it was killed all the same")
    with world.agent():
        gone(world, "web", web)


def test_what_is_not_ours_is_not_touched(world: World, server: engine.Server) -> None:
    """A look-alike with our labels but another owner, and one with an ordinary name."""
    labels = {"reconciler.owner": "somebody-else", "reconciler.name": "web", "reconciler.digest": "x"}
    body = {"Image": engine.IMAGE, "Entrypoint": ["sleep", "infinity"], "Labels": labels}
    made = server.api.create_container_from_config(body | {"HostConfig": {"NetworkMode": "none"}}, "bystander")
    server.api.start(made["Id"])
    pid = server.api.inspect_container(made["Id"])["State"]["Pid"]
    try:
        world.write("web.yaml", boxed("web"))
        world.apply()
        assert world.rows()["web"]["pid"] != pid
        world.succeed("destroy", "web")
        assert server.api.inspect_container(made["Id"])["State"]["Pid"] == pid
    finally:
        server.api.remove_container(made["Id"], force=True)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"containers": [{"name": "a", "command": ["sleep", "1"]}]}, "side by side"),
        ({"volumes": [{"type": "sandboxPath", "source": "x", "target": "/y"}]}, "the whole sandbox is at"),
        ({"image": None}, "an engine runs images only"),
    ],
)
def test_what_an_engine_cannot_give_is_refused_with_the_reason(world: World, spec: dict[str, object], why: str) -> None:
    world.write("web.yaml", boxed("web", **spec))
    said = world.reconciler("plan", world.specs)
    assert said.returncode == 1 and why in said.stdout + said.stderr


def test_an_image_that_is_not_there_says_so_and_a_command_that_is_not_in_it_is_a_failed_run(world: World) -> None:
    nowhere = {"reference": "nowhere:1", "pullPolicy": "Never"}
    world.write("none.yaml", boxed("none", image=nowhere))
    world.write("web.yaml", boxed("web", "/no/such/program", restartPolicy="Never"))
    with world.agent():
        exited(world, "web", 127)
        assert message_contains(world, "none", "nowhere:1 is not on the engine")["reason"] == "ImageUnavailable"


def test_health_checks_are_made_inside(world: World) -> None:
    """A command by the engine's exec, a connection in the container's own network; both decide on `ready`."""
    quick = {"delay": "100ms", "interval": "200ms", "timeout": "5s", "role": "readiness"}
    checks = [{"command": ["ls", "/tmp/ready"], **quick}, {"tcp": {"port": 8080}, **quick}]
    serve = "sleep 1; touch /tmp/ready; exec httpd -f -p 8080"
    world.write("web.yaml", boxed("web", "sh", "-c", serve, namespaces={"network": "private"}, healthChecks=checks))
    with world.agent():
        state(world, "web", "Running")
        until(world, "web", lambda row: row["ready"], "is ready", 20)


def test_a_secret_is_in_memory_and_known_to_nobody_but_its_container(world: World, server: engine.Server) -> None:
    """By its user, read-only; a changed content restarts; with the last container the memory is given back."""
    file, target = world.write("key", "s3cret-810003"), "/run/keys/one"
    world.write("web.yaml", boxed("web", user="1234", volumes=[{"type": "secret", "source": "key", "target": target}]))
    kept = world.runtime / "secrets"
    with world.agent() as agent:
        web = instance(world, "web")
        inside = Path(f"/proc/{web.pid}/root{target}")
        assert inside.read_text() == "s3cret-810003"
        assert (inside.stat().st_mode & 0o7777, inside.stat().st_uid) == (0o400, 1234)
        (mount,) = (line for line in Path(f"/proc/{web.pid}/mountinfo").read_text().splitlines() if target in line)
        assert mount.split()[5].startswith("ro") and " - ramfs " in mount
        known = json.dumps(inspected(server, world, "web")) + world.succeed("inspect", "web") + world.log()
        files = [path.read_bytes() for path in world.root.rglob("*") if path.is_file()]
        assert "s3cret" not in known and not [content for content in files if b"s3cret" in content]
        plan_is_empty(world)
        file.write_text("another")
        web = restarted(world, web, by="content of")
        assert Path(f"/proc/{web.pid}/root{target}").read_text() == "another"
        agent.kill()
    with world.agent():
        not_restarted(world, web)
        world.delete("web.yaml")
        gone(world, "web", web)
        eventually(lambda: not kept.exists(), "nothing is mounted any more", seen=lambda: list(kept.iterdir()))


def test_what_it_fetches_and_what_hooks_add_is_there_before_it_runs(world: World, server: engine.Server) -> None:
    """And what an interrupted launch made, found by its labels, is started as it is, not made a second time."""
    world.variables["REGISTER"] = str(world.aside)
    (world.specs / "note").write_text("fetched")
    shell = "cat /mnt/mesos/sandbox/note; echo; echo $REGISTERED_AT; exec sleep infinity"
    world.write("web.yaml", boxed("web", "sh", "-c", shell, uris=[{"uri": "note"}]))
    with world.agent("--hooks", CHECKOUT / "examples" / "hooks" / "register"):
        instance(world, "web")
        eventually(lambda: len(world.reconciler("logs", "web").stdout.split()) == 2, "it has said both")
        assert world.reconciler("logs", "web").stdout.split() == ["fetched", str(world.aside / "web")]
        assert (world.aside / "web").read_text().split() == ["docker", str(world.sandbox("web"))]
    made = inspected(server, world, "web")
    server.api.remove_container(made["Id"], force=True)
    body = {**made["Config"], "HostConfig": made["HostConfig"], "Hostname": None}
    left = server.api.create_container_from_config(body, made["Name"].lstrip("/"))["Id"]
    with world.agent("--hooks", CHECKOUT / "examples" / "hooks" / "register"):
        instance(world, "web")
        assert inspected(server, world, "web")["Id"] == left
        world.delete("web.yaml")
        gone(world, "web")
    assert not (world.aside / "web").exists()


def test_its_output_can_be_read_and_a_further_process_run(world: World) -> None:
    world.write("web.yaml", boxed("web", "sh", "-c", "echo out; echo err >&2; exec sleep infinity"))
    world.apply()
    said = world.reconciler("logs", "web")
    assert (said.returncode, said.stdout, said.stderr) == (0, "out\n", "err\n")
    said = world.reconciler("exec", "--env", "A=b", "web", "--", "sh", "-c", "echo $A; echo no >&2; exit 5")
    assert (said.returncode, said.stdout, said.stderr) == (5, "b\n", "no\n")
    said = world.reconciler("exec", "-i", "web", "--", "sh", "-c", "cat; exit 6", stdin="passed on")
    assert (said.returncode, said.stdout) == (6, "passed on")


def test_a_terminal_on_an_engine_is_one_for_exec_and_attach(world: World) -> None:
    """Keys, sizes, exit code, detaching; and what exec started ends with it."""
    world.write("web.yaml", boxed("web", "sh", "-c", "while read line; do echo got $line; done", tty=True))
    world.apply()
    web = instance(world, "web")
    with terminal(world, "exec", "-it", "web", "--", "sh") as shell:
        shell.type("stty size; exit 7\n")
        assert (shell.ended(), "31 101" in shell.shown) == (7, True), shell.shown
    with terminal(world, "attach", "web") as attached:
        attached.type("hello\n")
        eventually(lambda: "got hello" in attached.shown, "the payload answers", seen=lambda: attached.shown)
        attached.type("\x10\x11")
        assert attached.ended() == 0 and "detached" in attached.shown
    with terminal(world, "exec", "-it", "web", "--", "sleep", "77777") as shell:
        eventually(lambda: sleeping(), "it runs")
        os.kill(processes.below(shell.process.pid)[0].pid, signal.SIGTERM)
        shell.ended()
    eventually(lambda: not sleeping(), "it ended with its client")
    not_restarted(world, web)


def sleeping() -> list[int]:
    return [each.pid for each in processes.running(["sleep", "77777"], processes.table().values())]


class Terminal:
    """The command on a terminal of 31 rows and 101 columns."""

    def __init__(self, world: World, *arguments: str) -> None:
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 101, 0, 0))
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        argv = ["setsid", "--fork", "--wait", "--ctty", *world.argv(*arguments)]
        self.process = world.nursery.spawn(argv, env=world.environment(), **streams)
        os.close(slave)
        self._bytes = b""

    @property
    def shown(self) -> str:
        with contextlib.suppress(OSError):
            self._bytes += os.read(self._master, 1 << 16)
        return self._bytes.decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def ended(self) -> int:
        eventually(lambda: (self.shown, self.process.poll() is not None)[1], "it is over", seen=lambda: self.shown)
        return self.process.returncode


@contextlib.contextmanager
def terminal(world: World, *arguments: str) -> Iterator[Terminal]:
    made = Terminal(world, *arguments)
    try:
        yield made
    finally:
        for each in processes.below(made.process.pid):
            os.kill(each.pid, signal.SIGKILL)
        made.process.wait()


def test_a_custom_executor_is_the_containers_command(world: World, server: engine.Server) -> None:
    """The host's Python in the image, the executor fetched into the sandbox, where its socket is. A task is changed,
    the agent killed, a task fails unseen."""

    places = {"/usr": "/usr", "/usr/lib": "/lib", "/usr/lib64": "/lib64"}
    volumes = [{"type": "hostPath", "source": a, "target": b, "readOnly": True} for a, b in places.items()]
    program = CHECKOUT / "examples/executors/several.py"

    def written(**tasks: str) -> str:
        return crew_of(program, "/usr/bin/python3", tasks, volumes=volumes)

    go = "/mnt/mesos/sandbox/go"
    fails = f"until [ -e {go} ]; do sleep 0.1; done; /usr/bin/rm {go}; exit 5"
    world.write("crew.yaml", written(web="exec sleep 7021", beat="exec sleep 7022"))
    with world.agent() as agent:
        crew = instance(world, "crew")
        web = payload(world, "crew", ["sleep", "7021"])
        world.write("crew.yaml", written(web="exec sleep 7021", beat=fails))
        eventually(lambda: running(world, ["sleep", "7022"]) == 0, "the changed task's old process is gone")
        until(world, "crew", lambda row: row["ready"] and "task" not in row["message"], "the new one runs")
        not_restarted(world, crew)
        assert processes.alive(web.pid, web.start)
        plan_is_empty(world)
        agent.kill()
    (world.sandbox("crew") / "go").touch()
    with world.agent():
        restarted(world, crew)
        assert world.rows()["crew"]["exit"]["code"] == 5
        world.delete("crew.yaml")
        gone(world, "crew")
