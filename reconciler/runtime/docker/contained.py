"""Executors for an agent that runs in a container itself: a container each, of the agent's image, on the same engine.

What becomes of the agent's container, killed or upgraded, is nothing to them. One has the marks, its socket and the
engine's, and no network beyond; the engine removes it as it ends. The paths must be the host's, since the engine
mounts them. Follows Mesos's `--docker_mesos_image`.
"""

from __future__ import annotations

import contextlib
import json
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconciler.runtime.docker import naming, reading
from reconciler.runtime.docker.engine import CONFLICT, Engine, Refused
from reconciler.runtime.docker.executor import executor

_COMMAND = ("python3", "-m", "reconciler.runtime.docker.executor.executor")

Json = dict[str, Any]


class InContainers:
    def __init__(self, engine: Engine, image: str, owner: str) -> None:
        self._engine, self._image, self._owner = engine, image, owner

    async def begin(self, order: Json) -> None:
        """Raises Retryable, or OSError with the engine's words."""
        (Path(order["runtime"]) / executor.SOCKETS).mkdir(mode=0o700, exist_ok=True)
        name = naming.executor_name(self._owner, order["name"])
        body = container(self._image, self._owner, order)
        try:
            await self._engine.call(partial(_run, name, body))
        except Refused as error:
            raise OSError(f"its container, of {self._image}: {error}") from error

    async def end(self, name: str, pid: int | None) -> None:
        """Raises Retryable."""
        with contextlib.suppress(Refused):  # gone, or about to be
            wanted = naming.executor_name(self._owner, name)
            await self._engine.call(lambda api: api.remove_container(wanted, force=True))

    def close(self) -> None:
        """The engine is not ours alone."""


def container(image: str, owner: str, order: Json) -> Json:
    """The body of POST /containers/create."""
    url = urlsplit(order["url"])
    shared = [str(Path(order["mark"]).parent), str(Path(order["runtime"]) / executor.SOCKETS)]
    if url.scheme == "unix":
        shared.append(url.path)
    return {
        "Image": image,
        "Cmd": [*_COMMAND, json.dumps(order)],
        "Labels": {naming.OWNER: owner, naming.EXECUTOR: order["name"]},
        "User": "0:0",
        "HostConfig": {
            "AutoRemove": True,
            "NetworkMode": "none" if url.scheme == "unix" else "host",
            "Mounts": [{"Type": "bind", "Source": path, "Target": path} for path in shared],
            "ReadonlyRootfs": True,
            "SecurityOpt": ["no-new-privileges"],
        },
    }


def _run(name: str, body: Json, api: Any) -> None:
    """One that is at work already is left to it."""
    try:
        made = api.create_container_from_config(body, name)["Id"]
    except Exception as error:
        if getattr(error, "status_code", None) != CONFLICT:
            raise
        if reading.is_alive(api.inspect_container(name)):
            return
        api.remove_container(name, force=True)
        made = api.create_container_from_config(body, name)["Id"]
    api.start(made)
