"""A process that drives the runtime as the agent does and is killed on the way: `python dying_agent.py WORLD STEP`.

Says "at STEP" once it is there and then waits to be killed. Steps: prepare, isolate (the child is forked and blocked),
released, destroying, told (to end, with a grace that is not over).
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, PassiveIsolator
from tests import processes
from tests.integration.runtime.world import World

GRACE = 2.0 * processes.PATIENCE


class Stop(PassiveIsolator):
    name = "test/stop"

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def at(self, stage: str) -> None:
        if stage == self.stage:
            say(stage)
            threading.Event().wait()

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        self.at("prepare")
        return None

    def isolate(self, context: Context, pid: int) -> None:
        self.at("isolate")

    def cleanup(self, context: Context) -> None:
        self.at("destroying")


def say(stage: str) -> None:
    print(f"at {stage}", flush=True)


async def drive(world: World, step: str, name: str, script: str) -> None:
    async with world.agent([Stop(step)]) as agent:
        await agent.launch(name, shell=script)
        if step == "destroying":
            await agent.destroy(name)
        if step == "told":
            await agent.says(name, "ready")
            ending = asyncio.create_task(agent.destroy(name, grace=GRACE))
            await agent.says(name, "told")
            assert not ending.done()
        say(step)
        await asyncio.Event().wait()


def main() -> None:
    told = json.loads(sys.argv[1])
    world = World(Path(told["base"]), told["launcher"])
    world.settings = replace(world.settings, owner=told["owner"], cgroups_root=told["cgroups"])
    asyncio.run(drive(world, told["step"], told["name"], told["script"]))


if __name__ == "__main__":
    main()
