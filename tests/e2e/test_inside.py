"""What a payload finds when it starts, and what `exec` and `logs` do with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import processes
from tests.e2e.checks import KERNEL, eventually, instance, payload, running, state
from tests.e2e.world import CANARY, World, document, sleeper

KINDS = ("mount", "pid", "network", "uts", "ipc", "cgroup", "user")
WHITE = {"PATH", "HOME", "HOSTNAME", "PWD", "TERM", "USER", "LOGNAME", "SHELL", "LANG"}


def test_the_environment_is_the_specs_own_and_nothing_of_the_agents(any_world: World) -> None:
    """What the agent was started with never leaks."""
    any_world.write("web.yaml", sleeper("web", "800001", env={"GREETING": "hello world"}))
    any_world.apply()
    found = processes.environ(payload(any_world, "web", ["sleep", "800001"]).pid)
    assert found["GREETING"] == "hello world"
    assert not found.keys() & CANARY.keys()
    ours = {name for name in found if name.startswith(("RECONCILER_", "MESOS_"))}
    assert found.keys() - ours - WHITE == {"GREETING"}, found
    assert found["PATH"]


def test_the_payload_starts_with_descriptors_0_to_2_only(any_world: World) -> None:
    """Nothing of the host's is inherited; stdin is not the terminal."""
    any_world.write("web.yaml", sleeper("web", "800002"))
    any_world.apply()
    pid = payload(any_world, "web", ["sleep", "800002"]).pid
    assert {path.name for path in Path(f"/proc/{pid}/fd").iterdir()} == {"0", "1", "2"}


def test_the_payload_starts_with_default_dispositions_an_empty_mask_and_umask_022(any_world: World) -> None:
    """As from a clean login: nothing ignored (not even SIGPIPE), nothing blocked."""
    any_world.write("web.yaml", sleeper("web", "800003"))
    any_world.apply()
    facts = processes.status(payload(any_world, "web", ["sleep", "800003"]).pid)
    assert (int(facts["SigIgn"], 16), int(facts["SigBlk"], 16), facts["Umask"]) == (0, 0, "0022")


def test_the_payload_leads_a_session_of_its_own(any_world: World) -> None:
    """No terminal and no process group of the agent's reaches it."""
    any_world.write("web.yaml", sleeper("web", "800004"))
    any_world.apply()
    process = payload(any_world, "web", ["sleep", "800004"])
    assert process.session == process.pid


def test_without_an_init_the_payload_is_the_first_process(world: World) -> None:
    """`init: false`: pid 1 of its namespace, and the pid that `ps` shows."""
    world.write("web.yaml", sleeper("web", "800005", init=False))
    world.apply()
    process = payload(world, "web", ["sleep", "800005"])
    assert process.pid == world.rows()["web"]["pid"]


def test_the_working_directory_is_the_sandbox(world: World) -> None:
    """And it is writable, for whoever the container runs as."""
    world.write("web.yaml", document("web", shell="echo here >file; exec sleep 800006"))
    world.apply()
    sandbox = world.sandbox("web")
    eventually(lambda: (sandbox / "file").exists(), "the payload has written")
    assert (sandbox / "file").read_text() == "here\n"


def test_args_follow_the_command_and_the_working_directory_is_as_given(world: World) -> None:
    """command + args is the argv; workingDir is where it starts."""
    spec = document(
        "job", command=["sh", "-c", "pwd; echo $0 $1"], args=["a", "b c"], workingDir="/usr", restartPolicy="Never"
    )
    world.write("job.yaml", spec)
    world.apply()
    assert world.succeed("logs", "job") == "/usr\na b c\n"


@pytest.mark.root
def test_a_user_in_the_spec_is_who_the_payload_runs_as(world: World) -> None:
    """By number, and with no groups of root's."""
    world.write(
        "job.yaml",
        document("job", shell="id -u; id -g; touch mine && echo ok", user="65534:65534", restartPolicy="Never"),
    )
    world.apply()
    assert world.succeed("logs", "job") == "65534\n65534\nok\n"


def test_exec_passes_output_input_and_code_through(any_world: World) -> None:
    """stdout to stdout, stderr to stderr, stdin with -i, and the command's own exit code."""
    any_world.write("web.yaml", sleeper("web"))
    any_world.apply()
    answer = any_world.reconciler("exec", "-i", "web", "--", "sh", "-c", "cat; echo err >&2; exit 9", stdin="in\n")
    assert (answer.stdout, answer.stderr, answer.returncode) == ("in\n", "err\n", 9)
    without = any_world.reconciler("exec", "web", "--", "cat", stdin="in\n")
    assert (without.stdout, without.returncode) == ("", 0), "stdin goes in with -i only"


@pytest.mark.root
@pytest.mark.parametrize("name", ["web", "web.sub"])
def test_exec_runs_in_all_of_the_containers_namespaces_and_in_its_cgroup(world: World, name: str) -> None:
    """Every inode and every cgroup path is the payload's."""
    nested = [{"name": "sub", "command": ["sleep", "infinity"]}]
    world.write("web.yaml", sleeper("web", namespaces={"network": "private"}, containers=nested))
    world.apply()
    first = instance(world, name).pid
    child = world.nursery.spawn(
        world.argv("exec", name, "--", "sleep", "800007"), stdin=subprocess.DEVNULL, env=world.environment()
    )
    eventually(lambda: running(world, ["sleep", "800007"]) == 1, "the command runs")
    (inside,) = processes.running(["sleep", "800007"], world.nursery.processes())
    wanted = {kind: processes.namespace(first, KERNEL.get(kind, kind)) for kind in KINDS}
    assert {kind: processes.namespace(inside.pid, KERNEL.get(kind, kind)) for kind in KINDS} == wanted
    assert processes.cgroups(inside.pid) == processes.cgroups(first)
    os.kill(inside.pid, 15)
    assert child.wait(10) == 128 + 15


def test_exec_in_what_does_not_run_says_so(world: World) -> None:
    """4 for a name nobody knows; a plain failure for one that is over."""
    world.write("job.yaml", document("job", command=["true"], restartPolicy="Never"))
    world.apply()
    assert world.reconciler("exec", "nobody", "--", "true").returncode == 4
    over = world.reconciler("exec", "job", "--", "true")
    assert over.returncode not in (0, 4)
    assert "job" in over.stderr and "Traceback" not in over.stderr


def test_logs_keep_stdout_and_stderr_apart(any_world: World) -> None:
    """Each goes where it came from."""
    any_world.write("job.yaml", document("job", shell="echo out; echo err >&2", restartPolicy="Never"))
    any_world.apply()
    answer = any_world.reconciler("logs", "job")
    assert (answer.stdout, answer.stderr, answer.returncode) == ("out\n", "err\n", 0)


def test_logs_of_the_previous_run_are_kept(world: World) -> None:
    """Those of a crashed run can still be read while the next one runs."""
    shell = "if [ -e second ]; then echo two; exec sleep infinity; fi; touch second; echo one; exit 1"
    world.write("web.yaml", document("web", shell=shell, backoff={"initial": "100ms"}))
    with world.agent():
        eventually(lambda: world.reconciler("logs", "web").stdout == "two\n", "the second run has spoken")
        state(world, "web", "Running")
        assert world.succeed("logs", "--previous", "web") == "one\n"


def test_logs_can_be_followed(world: World) -> None:
    """`-f` shows what comes after it began."""
    world.write("web.yaml", document("web", shell="while [ ! -e go ]; do sleep 0.02; done; echo late; sleep infinity"))
    world.apply()
    out = world.base / "followed"
    with out.open("w") as stdout:
        child = world.nursery.spawn(
            world.argv("logs", "-f", "web"), stdin=subprocess.DEVNULL, stdout=stdout, env=world.environment()
        )
    (world.sandbox("web") / "go").touch()
    eventually(lambda: out.read_text() == "late\n", "the line was shown", seen=out.read_text)
    child.terminate()
    child.wait(10)
