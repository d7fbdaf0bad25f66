"""Hooks are asked before anything is ended for a start, and told of what is gone; they keep nothing for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import Retryable
from reconciler.loop.settings import Settings
from reconciler.runtime.hooks.hooks import Hooks
from reconciler.spec.model import ContainerSpec
from reconciler.states import Reason, Status
from tests.unit.loop.values import document
from tests.unit.loop.world import World, play


@dataclass
class Told(Hooks):
    env: dict[str, str] = field(default_factory=dict)
    refusal: Exception | None = None
    broken: Exception | None = None
    removed: list[str] = field(default_factory=list)

    async def pre_launch(self, spec: ContainerSpec, sandbox: Path) -> Mapping[str, str]:
        if self.refusal is not None:
            raise self.refusal
        return dict(self.env)

    async def remove(self, spec: ContainerSpec, sandbox: Path) -> None:
        self.removed.append(spec.name)
        if self.broken is not None:
            raise self.broken


def test_a_veto_leaves_what_runs_and_another_answer_restarts_nothing() -> None:
    hooks = Told(env={"A": "1"})
    world = World(settings=Settings(hooks=hooks))

    async def scene() -> None:
        world.files.texts["web.yaml"] = document("web", "shell: a")
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        assert world.containers.configs["web"].env == {"A": "1"}
        hooks.env, hooks.refusal = {"A": "2"}, Retryable("not today", Reason.HOOK_VETOED)
        world.files.texts["web.yaml"] = document("web", "shell: b")
        await agent.until(lambda: world.records.rows["web"].reason is Reason.HOOK_VETOED)
        row = world.records.rows["web"]
        assert (row.status, world.containers.launches["web"]) == (Status.RUNNING, 1) and "not today" in row.message
        hooks.refusal = None
        await agent.until(lambda: world.containers.launches["web"] == 2)
        await agent.until(lambda: world.status("web") == "Running")
        assert world.containers.configs["web"].env == {"A": "2"} and hooks.removed == []
        await agent.kill()

    play(scene())


def test_a_hook_that_fails_at_a_removal_is_seen_and_keeps_nothing_for_ever() -> None:
    hooks = Told(broken=Retryable("the hook x failed", Reason.HOOK_FAILED))
    world = World(settings=Settings(hooks=hooks))

    async def scene() -> None:
        world.files.texts |= {"web.yaml": document("web", "shell: a"), "other.yaml": document("other", "shell: a")}
        agent = await world.agent()
        await agent.until(lambda: world.containers.running() == {"web", "other"})
        del world.files.texts["web.yaml"]
        await agent.until(lambda: world.status("web") == "Stalled")
        row = world.records.rows["web"]
        assert row.reason is Reason.HOOK_FAILED and row.pid is None
        await agent.until(lambda: world.status("web") == "gone")
        assert hooks.removed == ["web"] * 3 and world.containers.running() == {"other"}
        await agent.kill()

    play(scene())
