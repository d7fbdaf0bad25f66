"""The launch of a container on an engine: what it needs in its sandbox, then created and started.

    FETCHING   mark ▸ sandbox, variables ▸ uris ▸ hooks ▸ secrets; ends when nobody wants it
    (made)     created, or what an interrupted launch left under its name adopted ▸ started
    RUNNING

The image is at hand already: it is pulled before what runs is ended for it. Invariant: the mark is on disk before
anything is made, so that what a launch left behind is known whatever dies when.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.errors import LaunchFailed, Retryable, Terminal
from reconciler.runtime.containerizer import ContainerConfig, Termination
from reconciler.runtime.docker import mapping, naming, reading
from reconciler.runtime.docker.engine import CONFLICT, Engine, Refused
from reconciler.runtime.docker.image_names import name_of
from reconciler.runtime.docker.marks import Marks
from reconciler.runtime.docker.secrets import Secrets
from reconciler.runtime.docker.tracked import Tracked
from reconciler.runtime.environment import gather
from reconciler.runtime.fetcher.fetcher import Fetcher
from reconciler.runtime.hooks.hooks import Hooks
from reconciler.runtime.provisioner import accounts, manifests, settings
from reconciler.states import ContainerState, Reason

if TYPE_CHECKING:
    from reconciler.spec.model import NetworkAttachment

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as a shell says it

Json = dict[str, Any]


class Launching:
    def __init__(
        self,
        *,
        engine: Engine,
        marks: Marks,
        secrets: Secrets,
        owner: str,
        fetcher: Fetcher,
        hooks: Hooks,
        notify: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._engine, self._marks, self._secrets, self._owner = engine, marks, secrets, owner
        self._fetcher, self._hooks, self._notify, self._clock = fetcher, hooks, notify, clock

    async def launch(self, container: Tracked, config: ContainerConfig) -> None:
        """Raises LaunchFailed (kept as a run), or Retryable."""
        container.state = ContainerState.FETCHING
        self._notify(container.name)
        try:
            config = await self._engine.call(partial(_with_image, config))
            container.kill_signal = config.spec.kill_policy.signal
            env, profile = await asyncio.to_thread(_prepare, config)
            await asyncio.to_thread(self._marks.put, config.name)
            await self._fetch(container, config)
            await asyncio.to_thread(self._secrets.write, config)
            body = mapping.body(self._owner, config, env, self._secrets.directory(config.name), profile)
            container.id = await self._engine.call(partial(_made, self._owner, config.name, _sealed(body)))
            if config.spec.user is not None:
                await self._engine.call(partial(self._give, container.id, config, config.spec.user))
            if more := mapping.joined(config.spec):
                await self._engine.call(partial(_join, container.id, more))
            await self._engine.call(lambda api: api.start(container.id))
        except Refused as error:
            raise self._failed(container, error) from error
        container.take_up(await self._engine.call(lambda api: api.inspect_container(container.id)), self._clock())

    async def _fetch(self, container: Tracked, config: ContainerConfig) -> None:
        def say(text: str) -> None:
            container.message = text
            self._notify(container.name)

        async def bring() -> None:
            await self._fetcher.fetch(config, say)
            await self._hooks.post_fetch(config.spec, config.sandbox)

        bringing = asyncio.create_task(bring(), name=f"fetch for {container.name}")
        container.interrupt = bringing.cancel
        try:
            _still_wanted(container)
            await bringing
        except asyncio.CancelledError:
            _still_wanted(container)
            raise
        finally:
            container.interrupt = lambda: None
            bringing.cancel()
            container.message = ""
        _still_wanted(container)

    def _give(self, id: str, config: ContainerConfig, user: str, api: Any) -> None:
        """Its sandbox and secrets to who that is in the image; to nobody, if the engine will not know them either."""
        with contextlib.suppress(Terminal):
            passwd, group = (_text(api, id, path) for path in (accounts.PASSWD, accounts.GROUP))
            found = accounts.resolve(user, passwd, group, accounts.IN_IMAGES)
            os.chown(config.sandbox, found.uid, found.gid)
            self._secrets.give(config.name, found.uid, found.gid)

    def _failed(self, container: Tracked, error: Refused) -> LaunchFailed | Retryable:
        """A container that was made and could not be started is a run that failed; before that there was no run."""
        if not container.id:
            return Retryable(f"{container.name}: {error}")
        missing = "not found" in str(error) or "no such file" in str(error)
        code = _NOT_FOUND if missing else _NOT_EXECUTABLE
        container.end(Termination(code, None, Reason.LAUNCH_FAILED, self._clock(), f"launch failed: {error}"))
        return LaunchFailed(f"launch failed: {error}", code)


def _still_wanted(container: Tracked) -> None:
    if container.unwanted:
        raise Retryable(f"{container.name}: was destroyed while it was launched", Reason.DESTROYED)


def _sealed(body: Json) -> Json:
    """With a label that says what it was made from: what an interrupted launch left is taken for ours only if it is
    what would be made now."""
    seal = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return {**body, "Labels": {**body["Labels"], naming.SEAL: seal}}


def _made(owner: str, name: str, body: Json, api: Any) -> str:
    """The container's id: a new one, or the one that an interrupted launch made and did not start."""
    from docker.errors import APIError

    wanted = naming.engine_name(owner, name)
    try:
        return str(api.create_container_from_config(body, wanted)["Id"])
    except APIError as error:
        if error.status_code != CONFLICT:
            raise
    left = inspected(api, wanted)
    if left is not None:
        labels = left["Config"]["Labels"] or {}
        if labels.get(naming.OWNER) != owner or reading.is_alive(left):
            raise Refused(CONFLICT, f"the engine has a container {wanted} that is not ours, or that runs")
        if reading.never_started(left) and labels.get(naming.SEAL) == body["Labels"][naming.SEAL]:
            return str(left["Id"])
        api.remove_container(left["Id"], v=True, force=True)
    return str(api.create_container_from_config(body, wanted)["Id"])


def _join(id: str, networks: Sequence[NetworkAttachment], api: Any) -> None:
    """Those it is not in yet: what was adopted may be."""
    present = api.inspect_container(id)["NetworkSettings"]["Networks"]
    for network in networks:
        if network.name not in present:
            api.connect_container_to_network(id, network.name, **_address(network))


def _address(network: NetworkAttachment) -> dict[str, str]:
    if network.ip is None:
        return {}
    return {"ipv6_address" if ":" in network.ip else "ipv4_address": network.ip}


def inspected(api: Any, id: str) -> Json | None:
    """None when it is gone by now."""
    from docker.errors import NotFound

    try:
        found: Json = api.inspect_container(id)
    except NotFound:
        return None
    return found


def _with_image(config: ContainerConfig, api: Any) -> ContainerConfig:
    """With what its spec leaves to the image, by the same rules as natively."""
    spec = config.spec
    found = api.inspect_image(name_of(spec.image.reference if spec.image else ""))
    image = manifests.run_config(found["Config"] or {})
    return replace(config, spec=settings.applied(spec, image), health_checks=settings.health_checks(spec, image))


def _text(api: Any, id: str, path: str) -> str:
    """Of an ordinary file in a container; empty when there is none, or one that is too large."""
    from docker.errors import NotFound

    try:
        stream, status = api.get_archive(id, path)
    except NotFound:
        return ""
    if status["size"] > accounts.LARGEST_FILE:
        return ""
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        content = tar.extractfile(member) if (member := tar.next()) is not None and member.isreg() else None
        return content.read().decode("utf-8", "surrogateescape") if content is not None else ""


def _prepare(config: ContainerConfig) -> tuple[Mapping[str, str], str | None]:
    """Make the sandbox. Returns the variables, and the text of the seccomp profile, if the spec names one."""
    config.sandbox.mkdir(mode=0o755, parents=True, exist_ok=True)
    env, seccomp = gather(config).plain, config.spec.security.seccomp
    if not seccomp.startswith("/"):
        return env, None
    try:
        return env, Path(seccomp).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Retryable(f"{config.name}: security.seccomp: {seccomp}: {error}") from error
