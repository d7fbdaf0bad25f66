"""Images as volumes: read-only unless the spec says otherwise, shared, and kept while they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.provisioner import layers
from reconciler.runtime.provisioner.store import Store
from reconciler.states import Reason
from tests import images
from tests.images import directory, file
from tests.integration.images.test_running import kept, provided
from tests.integration.runtime.world import Agent, World

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

SCRIPT = """
for at in {at}; do cat $at/word; ls $at; echo x > $at/new && echo wrote $at; done
stat -c '%u %n' {at}; cut -d' ' -f2,4 /proc/mounts; exec sleep 1000
"""


@pytest.fixture
def data(base: Path) -> str:
    """With a whiteout in each layer, so that the lowest has one of nothing too."""
    below = images.layer(file("word", "below"), file("old"), file(".wh.never"))
    return images.oci(
        base / "data", [below, images.layer(directory("", uid=7), file("word", "above\n"), file(".wh.old"))]
    )


def volumes(data: str, *targets: str) -> list[dict[str, Any]]:
    """Read-only, and one that is not."""
    first, second = ({"type": "image", "source": data, "target": target} for target in targets)
    return [first, second | {"readOnly": False}]


async def ran(agent: Agent, name: str, at: str, **spec: Any) -> list[str]:
    command = ["sh", "-c", SCRIPT.format(at=at)]
    whole = {"command": command, **spec}
    await agent.containerizer.provide(agent.world.config(name, **whole).spec, lambda text: None)
    await agent.launch(name, **whole)
    return (await agent.says(name, "/proc ")).splitlines()


@pytest.mark.parametrize("user", ["host", "private"])
@pytest.mark.parametrize("backend", ["overlay", "copy"])
async def test_its_files_are_there_and_what_is_written_goes_with_the_run(
    backend: str, user: str, world: World, base: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container with an image of its own, and in one with the host's files that is nested in it."""
    if backend == "copy":
        for probe in ("why_no_overlay", "why_no_mapped_overlay"):
            monkeypatch.setattr(layers, probe, lambda base, count: "not today")
    own = {"image": {"reference": images.oci(base / "box", [images.base()])}, "namespaces": {"user": user}}
    async with world.agent() as agent:
        said = await ran(agent, "shop", "/a /b", **own, volumes=volumes(data, "/a", "/b"))
        assert said[:7] == ["above", "word", "above", "word", "wrote /b", "7 /a", "7 /b"]
        options = {line.split()[0]: line.split()[1].split(",") for line in said[7:]}
        assert {"ro", "nodev"} <= set(options["/a"]) and {"rw", "nodev"} <= set(options["/b"])
        nested = await ran(agent, "shop.web", "a b", volumes=volumes(data, "a", "b"))
        assert nested[:7] == ["above", "word", "above", "word", "wrote b", "7 a", "7 b"]
        Store(world.root / "images").prune([])
        assert len(kept(world)["layers"]) == 3 and kept(world)["containers"] == ["shop", "shop.web"]
        await agent.destroy("shop")
        assert kept(world)["containers"] == kept(world)["tmp"] == []
        Store(world.root / "images").prune([])
        assert kept(world)["layers"] == []


async def test_one_that_cannot_be_had_is_said_before_the_launch(world: World, data: str) -> None:
    volume = {"type": "image", "source": data, "target": "x", "pullPolicy": "Never"}
    async with world.agent() as agent:
        with pytest.raises(Retryable, match="pullPolicy is Never") as caught:
            await ran(agent, "shop", "x", volumes=[volume])
        assert caught.value.reason is Reason.IMAGE_UNAVAILABLE
        await provided(agent, "other", data)
        assert "above" in await ran(agent, "shop", "x", volumes=[volume])
