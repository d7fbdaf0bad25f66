"""What an ordinary user does with the runtime, run in a process of that user's: `python as_nobody.py BASE`.

Prints one JSON object that says how each act went.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from reconciler.errors import Unsupported
from reconciler.runtime.build import build, end
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolation import choose_launcher
from reconciler.runtime.settings import RuntimeSettings
from reconciler.spec.model import ContainerSpec


async def main(base: Path) -> dict[str, object]:
    settings = RuntimeSettings(base / "root", base / "run", "nobody")
    said: dict[str, object] = {"uid": os.getuid(), "launcher": choose_launcher(None)}
    containerizer = build(settings, lambda name: None)
    await containerizer.recover()

    def config(name: str, **spec: object) -> ContainerConfig:
        made = ContainerSpec.model_validate({"name": name, **spec})
        home = settings.root / "containers" / name
        return ContainerConfig(made, "d", home / "sandbox", home / "logs")

    await containerizer.launch(config("job", shell="id -u; pwd; setsid -f sleep 1000; sleep 0.1; exit 3"))
    ended = await containerizer.wait("job")
    said["code"] = ended.code if ended else None
    said["output"] = (settings.root / "containers/job/logs/stdout").read_text().split()
    await containerizer.launch(config("long", command=["/bin/sleep", "1000"]))
    await containerizer.launch(config("long.nested", command=["/bin/sleep", "1000"]))
    status = await containerizer.status("long")
    said["message"] = status.message if status else ""
    await containerizer.launch(config("shown", shell="grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status"))
    await containerizer.wait("shown")
    said["privileges"] = (settings.root / "containers/shown/logs/stdout").read_text().split()
    for field in ({"user": "0"}, {"namespaces": {"pid": "private"}}, {"security": {"noNewPrivileges": False}}):
        try:
            await containerizer.launch(config("no", shell="x", **field))
        except Unsupported as error:
            said[next(iter(field))] = error.message
    for name in ("job", "long", "shown"):
        await containerizer.destroy(name)
    said["left"] = list(containerizer.containers())
    await containerizer.close()
    await end(settings)
    return said


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
