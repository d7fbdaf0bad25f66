"""Finding the verb, its options, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler import __version__
from reconciler.agent.lock import AgentLock
from reconciler.agent.paths import Places
from reconciler.cli.main import VERBS, parse
from tests.unit.cli.conftest import Command


@pytest.mark.parametrize(
    "words",
    [
        ["--root", "/r", "-o", "json", "ps"],
        ["ps", "--root", "/r", "-o", "json"],
        ["--root=/r", "ps", "--output", "json"],
        ["-ojson", "ps", "--root", "/r"],
    ],
)
def test_options_stand_before_or_after_the_verb(words: list[str]) -> None:
    _, args = parse(words)
    assert (args.root, args.output, args.runtime_dir) == ("/r", "json", None)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(reconciler: Command, verb: str) -> None:
    said = reconciler(verb, "--help")
    assert said.code == 0
    assert VERBS[verb][1] in " ".join(said.out.split())


@pytest.mark.parametrize(
    "words", [[], ["plan"], ["ps", "--bogus"], ["ps", "-o", "xml"], ["wait"], ["wait", "a", "--for", "x"]]
)
def test_a_command_line_that_cannot_be_understood_is_64(reconciler: Command, words: list[str]) -> None:
    said = reconciler(*words)
    assert (said.code, said.out) == (64, "")
    assert "usage: reconciler" in said.err


def test_a_misspelt_verb_is_answered_with_the_one_meant(reconciler: Command) -> None:
    assert "no such verb: 'aply'; did you mean 'apply'?" in reconciler("aply").err


def test_the_version_is_said(reconciler: Command) -> None:
    assert reconciler("version").out.startswith(f"reconciler {__version__} ")
    assert reconciler("--version").out == reconciler("version").out
    assert json.loads(reconciler("version", "-o", "json").out)["version"] == __version__


@pytest.mark.parametrize("verb", ["status", "why", "inspect", "logs"])
def test_a_name_that_does_not_exist_is_4(reconciler: Command, places: Places, verb: str) -> None:
    said = reconciler(verb, "nobody")
    assert (said.code, said.out) == (4, "")
    assert said.err == "reconciler: there is no container 'nobody'; `reconciler ps` lists them\n"
    assert not places.root.exists()


def test_exec_and_destroy_of_a_name_that_does_not_exist_are_4(reconciler: Command) -> None:
    assert reconciler("exec", "nobody", "--", "true").code == 4
    assert reconciler("destroy", "nobody").code == 4


def test_waiting_for_nobody_times_out_with_7(reconciler: Command) -> None:
    said = reconciler("wait", "nobody", "--timeout", "10ms")
    assert (said.code, said.err) == (7, "reconciler: nobody is not running after 10ms: there is no such container\n")
    assert reconciler("wait", "nobody", "--for", "gone").code == 0


def test_a_second_agent_is_refused_with_3(reconciler: Command, places: Places, tmp_path: Path) -> None:
    with AgentLock(places, "/specs"):
        for verb in ("run", "apply"):
            said = reconciler(verb, str(tmp_path))
            assert said.code == 3
            assert f"an agent is running on {places.root} already (pid " in said.err


def test_destroy_wants_names_or_all_and_not_both(reconciler: Command) -> None:
    assert reconciler("destroy").code == 1
    assert reconciler("destroy", "a", "--all").code == 1


def test_destroying_everything_where_nothing_is_makes_nothing(reconciler: Command, places: Places) -> None:
    assert reconciler("destroy", "--all").code == 0
    assert not places.root.exists() and not places.runtime_dir.exists()


def test_an_agent_in_a_container_has_the_docker_containerizer_only(reconciler: Command, tmp_path: Path) -> None:
    said = reconciler("plan", str(tmp_path), "--docker-agent-image", "x", "--containerizers", "mesos,docker")
    assert said.code == 1 and "--containerizers mesos,docker: with --docker-agent-image only docker: " in said.err
    said = reconciler("doctor", "--docker-agent-image", "x")
    for isolator in ("cgroups/mem: ", "filesystem/linux: ", "posix/cpu: ", "filesystem/posix: "):
        assert f" {isolator}" in said.out, "those of both launchers"
    assert "docker only, with --docker-agent-image x: the agent runs in a container of its own" in said.out


@pytest.mark.parametrize(("value", "why"), [("5", "unit"), ("0s", "at most"), ("61s", "at most")])
def test_what_a_hook_may_take_is_bounded(reconciler: Command, tmp_path: Path, value: str, why: str) -> None:
    said = reconciler("plan", str(tmp_path), "--hook-timeout", value)
    assert said.code == 1 and said.err.startswith(f"reconciler: --hook-timeout {value}: ") and why in said.err


@pytest.mark.parametrize("timeout", ["5", "soon", "-1s"])
def test_a_timeout_needs_a_unit(reconciler: Command, tmp_path: Path, timeout: str) -> None:
    said = reconciler("apply", str(tmp_path), f"--timeout={timeout}")
    assert said.code == 1
    assert said.err.startswith("reconciler: --timeout: ")


@pytest.mark.parametrize("label", ["ssd", "=ssd"])
def test_a_node_label_has_a_key_and_a_value(reconciler: Command, tmp_path: Path, label: str) -> None:
    said = reconciler("plan", str(tmp_path), "--node-label", label)
    assert (said.code, said.err) == (1, f"reconciler: --node-label {label}: must be KEY=VALUE, such as disk=ssd\n")


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_what_there_is_not_cannot_be_suspended_or_resumed(reconciler: Command, places: Places, verb: str) -> None:
    assert reconciler(verb, "nobody").code == 4
    assert not places.root.exists()


def test_approving_where_nothing_is_held_says_so(reconciler: Command) -> None:
    said = reconciler("approve", "--all")
    assert said.code == 1
    assert "nothing is held" in said.err


def test_options_come_from_a_file_and_the_command_line_wins(reconciler: Command, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("output: name\n")
    assert reconciler("ps", "--config", str(config)).out == ""
    assert reconciler("ps", "--config", str(config), "-o", "json").out == "[]\n"


def test_a_list_in_the_file_is_one_on_the_command_line(reconciler: Command, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("launcher: posix\nisolation: [filesystem/posix]\nhooks: [a, b]\n")
    said = reconciler("plan", str(tmp_path), "--config", str(config))
    assert said.err == "reconciler: --hooks a: no entry point of reconciler.hooks has that name; none is installed\n"


@pytest.mark.parametrize("text", ["rot: /x", "root: 5", "- root", "root: [", "{"])
def test_a_wrong_configuration_is_refused_with_its_name(reconciler: Command, tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    said = reconciler("ps", "--config", str(config))
    assert said.code == 1
    assert said.err.startswith(f"reconciler: {config}: ")


@pytest.mark.parametrize("verb", ["ps", "status", "why", "logs", "events", "wait"])
def test_reading_verbs_import_nothing_heavy(verb: str) -> None:
    """They must answer at once; pydantic alone takes twice as long as all of `ps`."""
    heavy = "pydantic ruamel watchdog docker requests http.client asyncio pyroute2"
    script = (
        f"import sys, reconciler.cli.main, reconciler.cli.{verb}, reconciler.agent.corrections\n"
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "[]"
