"""A warm agent without its loop: the containerizer as `reconciler run` builds it, told over a pipe what to launch.

    stdin     prepare NAME SPEC(JSON)        stdout    ready
              launch                                   launched
              clear                                    cleared

`python -m tests.bench.warm BASE`; at the end of its input it leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from reconciler.runtime.build import build, end
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.settings import RuntimeSettings
from reconciler.spec.model import ContainerSpec
from reconciler.spec.normal import digest

CGROUPS = "reconciler-bench"


def config_of(base: Path, name: str, spec: str) -> ContainerConfig:
    made = ContainerSpec.model_validate({"name": name, **json.loads(spec)})
    place = base / "root" / "containers" / name
    return ContainerConfig(made, digest(made), place / "sandbox", place / "logs")


async def serve(base: Path) -> None:
    settings = RuntimeSettings(base / "root", base / "run", f"b{base.name}", cgroups_root=CGROUPS)
    containerizer = build(settings, lambda name: None)
    await containerizer.recover()
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    config: ContainerConfig | None = None
    try:
        while line := (await lines.readline()).decode():
            verb, *rest = line.split(maxsplit=2)
            if verb == "prepare":
                config = config_of(base, *rest)
                print("ready", flush=True)
            elif verb == "launch" and config is not None:
                await containerizer.launch(config)
                print("launched", flush=True)
            elif config is not None:
                await containerizer.wait(config.name)
                await containerizer.destroy(config.name)
                print("cleared", flush=True)
    finally:
        for name in containerizer.containers():
            with contextlib.suppress(OSError):
                await containerizer.destroy(name, grace=0)
        await containerizer.close()
        await end(settings)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
