"""One private world per test: a spec directory, a state and a runtime directory, and the command.

Everything a scenario does goes through the command line, is kept in a transcript, and starts in
the nursery, so that whatever it leaves is ours. Directories are short: a unix socket's path holds
108 bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests import leaks, processes

CHECKOUT = Path(__file__).parents[2]
COMMAND = CHECKOUT / ".venv" / "bin" / "reconciler"
CANARY = {"AGENT_SECRET": "must-never-reach-a-container"}


def document(name: str, *, labels: object = None, **spec: object) -> str:
    """A spec file's text. JSON is YAML too, and survives any value."""
    metadata: dict[str, object] = {"name": name} | ({"labels": labels} if labels else {})
    whole = {"apiVersion": "reconciler/v1", "kind": "Container", "metadata": metadata, "spec": spec}
    return json.dumps(whole, indent=2) + "\n"


def sleeper(name: str, seconds: str = "infinity", *, labels: object = None, **spec: object) -> str:
    """The smallest spec that stays running; a number of `seconds` makes its payload recognisable."""
    return document(name, labels=labels, command=["sleep", seconds], **spec)


class Agent:
    """`run` in the foreground of a process of its own, its two streams in files."""

    def __init__(self, world: World, process: subprocess.Popen[str], out: Path, err: Path) -> None:
        self.world, self.process, self._out, self._err = world, process, out, err

    def ready(self, within: float = 30.0) -> Agent:
        deadline = time.monotonic() + within
        while "ready" not in self._out.read_text().splitlines():
            code = self.process.poll()
            assert code is None, f"the agent ended with {code} before it was ready: {self.log()}"
            assert time.monotonic() < deadline, f"the agent was not ready within {within:g} s: {self.log()}"
            time.sleep(0.01)
        return self

    def log(self) -> str:
        return self._out.read_text(errors="replace") + self._err.read_text(errors="replace")

    def kill(self) -> None:
        """kill -9, and gone."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, number: int = signal.SIGTERM, within: float = 15.0) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within)


class World:
    """`user`: the uid everything runs as, with a command of its own when this one's is out of its reach. `within`:
    what puts a command where it is to run."""

    def __init__(
        self,
        nursery: processes.Nursery,
        *,
        user: int | None = None,
        command: Path = COMMAND,
        flags: tuple[str, ...] = (),
        named: bool = True,
        variables: Mapping[str, str] | None = None,
        within: tuple[str, ...] = (),
    ) -> None:
        self.within = within
        self.nursery, self.user, self.flags, self.named = nursery, user, flags, named
        self.command = command
        self.variables = dict(variables or {})
        self.base = Path(tempfile.mkdtemp(prefix="rc", dir="/tmp"))
        self.root, self.runtime, self.specs, self.aside = (self.base / name for name in ("s", "r", "n", "a"))
        for directory in (self.specs, self.aside):
            directory.mkdir()
        for directory in (self.base, self.specs, self.aside):
            directory.chmod(0o755)
            self.own(directory)
        self.transcript: list[str] = []
        self.agents: list[Agent] = []
        self.before = leaks.take(self.scope())

    @property
    def unprivileged(self) -> bool:
        return self.user is not None or os.geteuid() != 0

    # ── the user's files ──────────────────────────────────────────────────────────────────────

    def write(self, file: str, text: str) -> Path:
        """A plain write, as `cp` or an editor without care does it."""
        path = self.specs / file
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            self.own(path.parent)
        path.write_text(text)
        self._note(f"wrote {file}")
        return self.own(path)

    def own(self, path: Path) -> Path:
        """Give what root made to the user whose world this is."""
        if self.user is not None:
            os.chown(path, self.user, self.user)
        return path

    def rename_in(self, file: str, text: str) -> Path:
        """Written elsewhere on the same file system, then renamed into place."""
        new = self.aside / "new"
        new.write_text(text)
        self._note(f"renamed {file} in")
        return self.own(new).rename(self.specs / file)

    def rename_out(self, file: str) -> Path:
        self._note(f"renamed {file} out")
        return (self.specs / file).rename(self.aside / Path(file).name)

    def delete(self, file: str) -> None:
        self._note(f"deleted {file}")
        (self.specs / file).unlink()

    # ── the command ───────────────────────────────────────────────────────────────────────────

    def argv(self, *arguments: object, directories: bool = True) -> list[str]:
        words = [str(each) for each in arguments]
        where = ["--root", str(self.root), "--runtime-dir", str(self.runtime)]
        flags = list(self.flags) if words and words[0] in ("run", "apply", "plan") else []
        user = (
            [] if self.user is None else ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        )
        verb, rest = words[:1], words[1:]
        return [
            *self.within,
            *user,
            str(self.command),
            *verb,
            *(where if directories and self.named else []),
            *flags,
            *rest,
        ]

    def environment(self) -> dict[str, str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        mine = {"PATH": path, "HOME": str(self.base), "LANG": "C.UTF-8", "XDG_STATE_HOME": str(self.base)}
        return mine | {"XDG_RUNTIME_DIR": str(self.base / "x")} | CANARY | self.variables

    def reconciler(
        self, *arguments: object, timeout: float = 60, stdin: str | None = None, directories: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one verb; it must return, with its output's pipes closed, before the timeout."""
        began = time.monotonic()
        argv = self.argv(*arguments, directories=directories)
        try:
            answer = self.nursery.run(argv, timeout=timeout, stdin=stdin, env=self.environment(), cwd=self.base)
        except subprocess.TimeoutExpired:
            self._note(f"$ {' '.join(argv)}\n  did not return within {timeout:g} s")
            raise
        if arguments[:1] != ("ps",):
            took = time.monotonic() - began
            self._note(f"$ {' '.join(argv)}\n  exit {answer.returncode} after {took:.2f} s")
            self._note(f"  stdout: {answer.stdout[-3000:]}\n  stderr: {answer.stderr[-3000:]}")
        return answer

    def succeed(self, *arguments: object, code: int = 0, **options: Any) -> str:
        """Its standard output, its exit code being `code`."""
        answer = self.reconciler(*arguments, **options)
        assert answer.returncode == code, (
            f"exit {answer.returncode}, not {code}: {answer.args}\n{answer.stdout}{answer.stderr}"
        )
        return answer.stdout

    def apply(self, *more: object, code: int = 0, **options: Any) -> str:
        return self.succeed("apply", self.specs, *more, code=code, **options)

    def rows(self) -> dict[str, dict[str, Any]]:
        answer = self.reconciler("ps", "-o", "json")
        assert answer.returncode == 0, f"ps exits {answer.returncode}: {answer.stdout}{answer.stderr}"
        rows = json.loads(answer.stdout)
        names = [row["name"] for row in rows]
        assert len(names) == len(set(names)), f"ps has a name twice: {names}"
        return {row["name"]: row for row in rows}

    def row(self, name: str) -> dict[str, Any] | None:
        return self.rows().get(name)

    def sandbox(self, name: str) -> Path:
        return Path(self.rows()[name]["sandbox"])

    # ── the agent and the keeper ──────────────────────────────────────────────────────────────

    def start(self, *more: object, source: Path | str | None = None) -> Agent:
        """An agent that may or may not come to be ready."""
        number = len(self.agents)
        out, err = self.base / f"agent{number}.out", self.base / f"agent{number}.err"
        argv = self.argv("run", source or self.specs, *more)
        with out.open("w") as stdout, err.open("w") as stderr:
            process = self.nursery.spawn(
                argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=self.environment(), cwd=self.base
            )
        self._note(f"$ {' '.join(argv)} &  # {process.pid}")
        self.agents.append(Agent(self, process, out, err))
        return self.agents[-1]

    @contextlib.contextmanager
    def agent(self, *more: object) -> Iterator[Agent]:
        """A ready agent; at the end it is stopped when it still runs, and its containers stay."""
        agent = self.start(*more).ready()
        try:
            yield agent
        finally:
            if agent.process.poll() is None:
                agent.stop()

    def log(self) -> str:
        return "".join(agent.log() for agent in self.agents)

    def keepers(self) -> list[processes.Process]:
        """By what its argv promises to show: `keeper` and the runtime directory."""
        return [
            each
            for each in self.nursery.processes()
            if "keeper" in (words := " ".join(processes.cmdline(each.pid))) and str(self.runtime) in words
        ]

    # ── what is ours on the machine ───────────────────────────────────────────────────────────

    def owner(self) -> str | None:
        with contextlib.suppress(OSError):
            return (self.root / "owner").read_text().strip()
        return None

    def scope(self) -> leaks.Scope:
        owner = self.owner()
        alone = os.environ.get("CI", "").lower() in ("true", "1") and "PYTEST_XDIST_WORKER" not in os.environ
        return leaks.Scope((self.base,), (owner,) if owner else (), (self.runtime,), everything=alone)

    def cgroup_paths(self) -> list[str]:
        owner = self.owner()
        return [path for path in leaks.take(self.scope()).cgroups if owner and owner in path.split("/")]

    def tear_down(self) -> list[str]:
        """Destroy everything, then say what is left all the same."""
        complaints = []
        if not self.root.exists():  # nothing was ever started, and so nothing need be asked to go
            return leaks.left(self.before, self.scope)
        try:
            answer = self.reconciler("destroy", "--all", timeout=25)
            if answer.returncode:
                complaints.append(f"destroy --all exits {answer.returncode}: {answer.stdout}{answer.stderr}")
        except subprocess.TimeoutExpired:
            complaints.append("destroy --all did not return within 25 s")
        left = leaks.left(self.before, self.scope)
        complaints += left
        containers = self.root / "containers"
        if containers.is_dir():
            complaints += [f"{path} is left" for path in sorted(containers.iterdir())]
        return complaints

    def sweep(self) -> None:
        for agent in self.agents:
            if agent.process.poll() is None:
                agent.kill()
        leaks.sweep(self.scope(), self.before)

    def remove(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    def _note(self, text: str) -> None:
        self.transcript.append(f"{time.strftime('%H:%M:%S')}.{time.time_ns() // 1_000_000 % 1000:03d} {text}")
