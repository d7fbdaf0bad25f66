"""Having an image at hand on the engine, by the spec's pull policy: pulled by it, or read here and handed over.

One pull of an image at a time: the engine sees to that for its own, a lock for what is handed over.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.docker import loading
from reconciler.runtime.docker.engine import NOT_FOUND, Engine, Refused
from reconciler.runtime.docker.image_names import local, name_of
from reconciler.runtime.docker.pulling import Pull
from reconciler.runtime.provisioner import references
from reconciler.runtime.provisioner.manifests import BadImage
from reconciler.runtime.provisioner.references import Local, Remote
from reconciler.runtime.provisioner.registry import Access
from reconciler.runtime.threads import telling
from reconciler.states import Reason

if TYPE_CHECKING:
    from docker import APIClient

    from reconciler.spec.model import ContainerSpec

PULL_SECONDS = 1800.0

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
            if error.status != NOT_FOUND:
                raise
            return False
        return True

    async def _pull(self, image: str, say: Say) -> None:
        say(f"pulling {image}")
        try:
            authorization = await self._engine.call(lambda api: _authorization(api, self._access, image))
            pull = Pull(self._engine.url, image, authorization)
            try:
                await self._engine.call(lambda _: pull.run(say), PULL_SECONDS, "pulls")
            finally:
                pull.stop()
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


def _authorization(api: APIClient, access: Access, image: str) -> str:
    """X-Registry-Auth: ours, or what Docker's own configuration and its credential helpers have; "" for none."""
    from docker import auth

    if (known := _credentials(access, image)) is not None:
        return str(auth.encode_header(known).decode())
    registry, _ = auth.resolve_repository_name(image)
    found = auth.get_config_header(api, registry)
    return str(found.decode()) if found else ""
