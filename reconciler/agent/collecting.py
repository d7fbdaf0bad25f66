"""Images go by themselves when the file system they are on is nearly full: those that nothing asks for, runs on or has
recorded, as `prune-images` does it. While an image is being provided nothing is removed; the next look sees.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable

from reconciler.agent import images
from reconciler.agent.paths import Places
from reconciler.errors import ReconcilerError
from reconciler.runtime.provisioner.images import DIRECTORY

SECONDS = 60.0  # between one look and the next

log = logging.getLogger(__name__)


def is_nearly_full(free: int, size: int, headroom: float) -> bool:
    """headroom: the part that is to stay free, 0 to 1. free, size: of a file system, in the same unit."""
    return size > 0 and free < size * headroom


async def collect(
    places: Places, headroom: float, desired: Callable[[], Iterable[str]], tell: Callable[[str], None]
) -> None:
    """For ever. desired: references of the images that are asked for now."""
    while headroom > 0:
        try:
            if await asyncio.to_thread(_short, places, headroom):
                gone = await asyncio.to_thread(images.prune, places, tuple(desired()))
                if gone.references or gone.layers:
                    names = ", ".join(gone.references) or "none by name"
                    tell(f"the disk of {places.root} is nearly full: {gone.layers} layers, {gone.size} bytes; {names}")
        except (ReconcilerError, OSError) as error:
            log.info("images are not collected now: %s", error)
        await asyncio.sleep(SECONDS)


def _short(places: Places, headroom: float) -> bool:
    directory = places.root / DIRECTORY
    if not directory.is_dir():
        return False
    found = os.statvfs(directory)
    return is_nearly_full(found.f_bavail, found.f_blocks, headroom)
