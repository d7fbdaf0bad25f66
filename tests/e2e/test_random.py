"""Random edits, crashes and restarts; whatever came before, it ends as the files say, with an empty plan and no leak.

A few histories, always the same, in the ordinary suite; `make fault` plays other ones, and more.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests import processes
from tests.e2e.checks import eventually, plan_is_empty
from tests.e2e.conftest import live
from tests.e2e.world import Agent, World

HISTORIES = int(os.environ.get("FAULT_HISTORIES", "0"))
WITHIN = 40.0
NAMES = ("a", "b", "c")
NESTED = ("x", "y")
QUICK = {"initial": "100ms", "max": "300ms"}
FIRST = 730_000


@dataclass(frozen=True)
class Written:
    """What a file asks for. version: makes the payload another one; nested: labels with their versions."""

    version: int
    nested: tuple[tuple[str, int], ...]
    memory: str | None

    def payloads(self, name: str) -> dict[str, str]:
        """Dotted name → the argument of its `sleep`, which no other name ever has."""
        found = {name: number(name, "", self.version)}
        return found | {f"{name}.{label}": number(name, label, version) for label, version in self.nested}

    def text(self, name: str) -> str:
        def spec(label: str, version: int) -> dict[str, Any]:
            return {"command": ["sleep", number(name, label, version)], "backoff": QUICK}

        inner = [{"name": label, **spec(label, version)} for label, version in self.nested]
        limits = {"resources": {"limits": {"memory": self.memory}}} if self.memory else {}
        whole = spec("", self.version) | limits | ({"containers": inner} if inner else {})
        return json.dumps(
            {"apiVersion": "reconciler/v1", "kind": "Container", "metadata": {"name": name}, "spec": whole}
        )


def number(name: str, label: str, version: int) -> str:
    return str(FIRST + 1000 * NAMES.index(name) + 100 * (1 + NESTED.index(label) if label else 0) + version)


documents = st.builds(
    Written,
    st.integers(0, 2),
    st.lists(st.tuples(st.sampled_from(NESTED), st.integers(0, 1)), max_size=2, unique_by=lambda each: each[0]).map(
        tuple
    ),
    st.sampled_from([None, "64Mi", "96Mi"]),
)
names = st.sampled_from(NAMES)


@dataclass
class Files:
    """What the files say; broken: those whose last good version goes on."""

    wanted: dict[str, Written] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)


class History(RuleBasedStateMachine):
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.files = Files()
        self.agent: Agent | None = None

    @initialize()
    def begin(self) -> None:
        self.agent = self.world.start().ready()

    @rule(name=names, document=documents, renamed=st.booleans())
    def write(self, name: str, document: Written, renamed: bool) -> None:
        put = self.world.rename_in if renamed else self.world.write
        put(f"{name}.yaml", document.text(name))
        self.files.wanted[name] = document
        self.files.broken.discard(name)

    @precondition(lambda self: self.files.wanted)
    @rule(data=st.data())
    def break_file(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.files.wanted)))
        self.world.write(f"{name}.yaml", "apiVersion: [")
        self.files.broken.add(name)

    @precondition(lambda self: self.files.wanted)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.files.wanted)))
        self.world.delete(f"{name}.yaml")
        del self.files.wanted[name]
        self.files.broken.discard(name)

    @rule(name=names, first=st.booleans())
    def kill_something(self, name: str, first: bool) -> None:
        """The first process of a container, or its payload; whichever of the name's is there."""
        found = sorted(self._of(name), key=lambda process: process.pid)
        if found:
            victim = found[0]
            pid = victim.pid if not first else _parent(victim.pid)
            if any(process.pid == pid for process in self.world.nursery.processes()):
                _kill(pid)

    @precondition(lambda self: self.agent is not None)
    @rule()
    def kill_agent(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent = None

    @precondition(lambda self: self.agent is None)
    @rule()
    def start_agent(self) -> None:
        self.agent = self.world.start()

    @rule()
    def kill_keeper(self) -> None:
        for keeper in self.world.keepers():
            _kill(keeper.pid)

    @precondition(lambda self: self.agent is not None)
    @rule()
    def come_to_rest(self) -> None:
        self._converged()

    @invariant()
    def at_most_one_instance_of_a_name_runs(self) -> None:
        running = Counter(int(argument) // 100 for argument in self._arguments())
        assert not running or max(running.values()) == 1, f"something runs twice: {self._seen()}"

    def teardown(self) -> None:
        if self.agent is None:
            self.agent = self.world.start()
        for name in sorted(self.files.broken):
            self.world.write(f"{name}.yaml", self.files.wanted[name].text(name))
        self.files.broken.clear()
        self._converged()
        plan_is_empty(self.world)
        for name in sorted(self.files.wanted):
            self.world.delete(f"{name}.yaml")
        self.files.wanted.clear()
        self._converged()
        self.agent.stop()

    # ── what there is ─────────────────────────────────────────────────────────────────────────

    def _converged(self) -> None:
        """Every name of an unbroken file runs as that says, and nothing else but what broken ones may have left."""
        eventually(self._as_wanted, "what runs is what the files say", within=WITHIN, seen=self._seen)

    def _as_wanted(self) -> bool:
        wanted: dict[str, str] = {}
        for name, document in self.files.wanted.items():
            if name not in self.files.broken:
                wanted |= document.payloads(name)
        spared = tuple(str(FIRST // 1000 + NAMES.index(name)) for name in self.files.broken)
        running = sorted(each for each in self._arguments() if not each.startswith(spared or "none"))
        if running != sorted(wanted.values()):
            return False
        rows = self.world.rows()
        settled = all(name in rows and rows[name]["status"] == "Running" for name in wanted)
        left = {name for name in rows if name.partition(".")[0] not in self.files.broken} - wanted.keys()
        return settled and not left

    def _seen(self) -> object:
        rows = {name: (row["status"], row["message"]) for name, row in self.world.rows().items()}
        return self.files, rows, self._arguments()

    def _sleeps(self) -> list[processes.Process]:
        found = []
        for each in self.world.nursery.processes():
            argv = processes.cmdline(each.pid)
            if len(argv) == 2 and argv[0] == "sleep" and argv[1].startswith(str(FIRST)[:2]):
                found.append(each)
        return found

    def _arguments(self) -> list[str]:
        lines = [processes.cmdline(each.pid) for each in self._sleeps()]
        return [line[1] for line in lines if len(line) == 2]

    def _of(self, name: str) -> list[processes.Process]:
        start = str(FIRST // 1000 + NAMES.index(name))
        return [each for each in self._sleeps() if (*processes.cmdline(each.pid), "", "")[1].startswith(start)]


def _parent(pid: int) -> int:
    return int(processes.status(pid)["PPid"])


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


ALL = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def play(request: pytest.FixtureRequest, nursery: processes.Nursery, chosen: settings) -> None:
    """Each history in a world of its own, with the leak check at its end."""

    class InItsWorld(History):
        def __init__(self) -> None:
            self._life = live(request.node, lambda: World(nursery))
            self.world = next(self._life)
            super().__init__()

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                next(self._life, None)

    run_state_machine_as_test(InItsWorld, settings=chosen)  # type: ignore[no-untyped-call]


def test_whatever_happens_it_ends_as_the_files_say(request: pytest.FixtureRequest, nursery: processes.Nursery) -> None:
    chosen = settings(
        max_examples=HISTORIES or 5,
        stateful_step_count=40 if HISTORIES else 24,
        derandomize=not HISTORIES,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=ALL,
        print_blob=True,
    )
    play(request, nursery, chosen)
