"""Having an image at hand on the engine, by the spec's pull policy: pulled by it, or read here and handed over.

One pull of an image at a time: the engine sees to that for its own, a lock for what is handed over.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.docker import loading
from reconciler.runtime.docker.engine import Engine, Refused
from reconciler.runtime.docker.image_names import local, name_of
from reconciler.runtime.provisioner import references
from reconciler.runtime.provisioner.manifests import BadImage
from reconciler.runtime.provisioner.references import Local, Remote
from reconciler.runtime.provisioner.registry import Access
from reconciler.runtime.threads import telling
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

PULL_SECONDS = 1800.0
_SAY_EVERY = 1.0
_NOT_FOUND = 404

Say = Callable[[str], None]


class Images:
    def __init__(self, engine: Engine, access: Access) -> None:
        self._engine, self._access = engine, access
        self._loads: dict[str, asyncio.Lock] = {}

    async def provide(self, spec: ContainerSpec, say: Say) -> None:
        """Raises Retryable (reason ImageUnavailable) with the engine's or registry's own words. say: the progress."""
        assert spec.image is not None
        reference, policy, say = spec.image.reference, spec.image.pull_policy, telling(say)
        image = name_of(reference)
        if policy != "Always" and await self._has(image):
            return
        if policy == "Never":
            why = "is not on the engine, and pullPolicy is Never"
            raise Retryable(f"image {reference} {why}", Reason.IMAGE_UNAVAILABLE)
        if (found := local(reference)) is None:
            await self._pull(image, say)
            return
        say(f"providing {reference}")
        async with self._loads.setdefault(reference, asyncio.Lock()):
            if policy == "Always" or not await self._has(image):
                await self._load(found, reference, image, say)

    async def _has(self, image: str) -> bool:
        try:
            await self._engine.call(lambda api: api.inspect_image(image))
        except Refused as error:
            if error.status != _NOT_FOUND:
                raise
            return False
        return True

    async def _pull(self, image: str, say: Say) -> None:
        say(f"pulling {image}")
        try:
            auth = await asyncio.to_thread(_credentials, self._access, image)
            await self._engine.call(lambda api: _pull(api, image, auth, say), PULL_SECONDS, "pulls")
        except (Refused, BadImage, OSError) as error:
            raise Retryable(f"image {image} cannot be pulled: {error}", Reason.IMAGE_UNAVAILABLE) from error

    async def _load(self, found: Local, reference: str, image: str, say: Say) -> None:
        stop = threading.Event()

        def check() -> None:
            if stop.is_set():
                raise BadImage("nobody waits for it any more")

        def tell(what: str) -> None:
            say(f"providing {reference}: {what}")

        try:
            await self._engine.call(lambda api: loading.load(api, found, image, tell, check), PULL_SECONDS, "pulls")
        except (Refused, BadImage, OSError) as error:
            raise Retryable(f"image {reference}: {error}", Reason.IMAGE_UNAVAILABLE) from error
        finally:
            stop.set()


def _credentials(access: Access, image: str) -> dict[str, str] | None:
    """As an engine is given them; None: those of Docker's own configuration, if it has any."""
    with contextlib.suppress(Terminal):  # the engine says what is wrong with the name
        found = references.parse(image)
        if isinstance(found, Remote) and (known := access.credentials(found.registry)) is not None:
            try:
                user, _, password = base64.b64decode(known).decode().partition(":")
            except UnicodeDecodeError:
                raise BadImage(f"{access.auth}: the credentials for {found.registry} are no UTF-8") from None
            return {"username": user, "password": password}
    return None


def _pull(api: Any, image: str, auth: dict[str, str] | None, say: Say) -> None:
    """Its errors come in the stream, with a status of 200."""
    told, layers = time.monotonic(), dict[str, bool]()
    repository, tag = _parts(image)
    for line in api.pull(repository, tag=tag, stream=True, decode=True, auth_config=auth):
        if "error" in line:
            raise Refused(500, str(line["error"]))
        if "id" in line:
            layers[line["id"]] = line.get("status") in ("Pull complete", "Already exists")
        if time.monotonic() - told > _SAY_EVERY:
            told = time.monotonic()
            say(f"pulling {image}: {sum(layers.values())} of {len(layers)} layers")


def _parts(image: str) -> tuple[str, str]:
    if "@" in image:
        repository, _, digest = image.partition("@")
        return repository, digest
    repository, _, tag = image.rpartition(":")
    return repository, tag
