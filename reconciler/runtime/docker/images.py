"""Having an image at hand on the engine, by the spec's pull policy; one pull of an image at a time, shared by all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reconciler.errors import Retryable
from reconciler.runtime.docker.engine import Engine, Refused
from reconciler.runtime.docker.mapping import image_of
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

PULL_SECONDS = 1800.0
_SAY_EVERY = 1.0
_NOT_FOUND = 404


async def provide(engine: Engine, spec: ContainerSpec, say: Callable[[str], None]) -> None:
    """Raises Retryable (reason ImageUnavailable) with the engine's or the registry's own words. say: the progress."""
    image, policy = image_of(spec), spec.image.pull_policy if spec.image else "Never"
    if policy != "Always" and await _has(engine, image):
        return
    if policy == "Never":
        raise Retryable(f"image {image} is not on the engine, and pullPolicy is Never", Reason.IMAGE_UNAVAILABLE)
    say(f"pulling {image}")
    try:
        await engine.call(lambda api: _pull(api, image, say), PULL_SECONDS, "pulls")
    except Refused as error:
        raise Retryable(f"image {image} cannot be pulled: {error}", Reason.IMAGE_UNAVAILABLE) from error


async def _has(engine: Engine, image: str) -> bool:
    try:
        await engine.call(lambda api: api.inspect_image(image))
    except Refused as error:
        if error.status != _NOT_FOUND:
            raise
        return False
    return True


def _pull(api: Any, image: str, say: Callable[[str], None]) -> None:
    """Its errors come in the stream, with a status of 200."""
    told, layers = time.monotonic(), dict[str, bool]()
    repository, tag = _parts(image)
    for line in api.pull(repository, tag=tag, stream=True, decode=True):
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
