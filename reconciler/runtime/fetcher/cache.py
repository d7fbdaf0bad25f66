"""What was fetched with `cache: true`: one file per uri, checksum and user, least recently used out first.

    ROOT/cache/uris/<key>       complete: renamed into place once it was verified; its mtime is when it was last used
    ROOT/cache/uris/<key>.new   of a download under way, or of an agent that died meanwhile

One download for all who wait for it: it goes on for as long as one of them does, and what it fails of, all fail of.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

LARGEST = 2 << 30
"""Bytes of all of them together; the newest is kept whatever its size."""
_NEW = ".new"

Say = Callable[[str], None]
Download = Callable[[int, Say], Awaitable[None]]


@dataclass(slots=True)
class _Coming:
    """A download under way, and who is told of its progress."""

    task: asyncio.Task[None]
    waiting: list[Say] = field(default_factory=list)


class Cache:
    def __init__(self, directory: Path, largest: int = LARGEST) -> None:
        self._directory, self._largest = directory, largest
        self._coming: dict[str, _Coming] = {}
        self._swept = False

    @staticmethod
    def key(source: str, sha256: str | None, owner: tuple[int, int] | None) -> str:
        """Another user may not be allowed to read what one of them was."""
        return hashlib.sha256(json.dumps([source, sha256, owner]).encode()).hexdigest()

    async def get(self, key: str, download: Download, say: Say) -> int:
        """A descriptor of it, the caller's to close; downloaded if it is not there. Raises what `download` does."""
        while (fd := await asyncio.to_thread(self._taken, key)) is None:
            await self._shared(key, download, say)
        return fd

    async def drop(self, key: str) -> None:
        await asyncio.to_thread((self._directory / key).unlink, missing_ok=True)

    async def _shared(self, key: str, download: Download, say: Say) -> None:
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = _Coming(asyncio.create_task(self._fill(key, download), name=f"cache {key}"))
            coming.task.add_done_callback(lambda _: self._coming.pop(key, None))
        coming.waiting.append(say)
        try:
            await asyncio.shield(coming.task)
        finally:
            coming.waiting.remove(say)
            if not coming.waiting and not coming.task.done():
                coming.task.cancel()
                await asyncio.wait({coming.task})

    async def _fill(self, key: str, download: Download) -> None:
        def say(text: str) -> None:
            for each in self._coming[key].waiting:
                each(text)

        temporary = self._directory / f"{key}{_NEW}"
        fd = await asyncio.to_thread(self._begun, temporary)
        try:
            await download(fd, say)
            await asyncio.to_thread(self._finished, temporary, self._directory / key)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    # -- in threads

    def _taken(self, key: str) -> int | None:
        try:
            fd = os.open(self._directory / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        _used(fd)
        return fd

    def _begun(self, path: Path) -> int:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._swept:
            self._swept = True
            for left in self._directory.glob(f"*{_NEW}"):
                left.unlink(missing_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _finished(self, temporary: Path, path: Path) -> None:
        _used(temporary)
        temporary.rename(path)
        kept = sorted((file.stat().st_mtime_ns, file) for file in self._directory.iterdir() if file != path)
        total = path.stat().st_size + sum(file.stat().st_size for _, file in kept)
        for _, file in kept:
            if total <= self._largest:
                break
            if file.suffix != _NEW:
                total -= file.stat().st_size
                file.unlink()


def _used(file: int | Path) -> None:
    """Now, by a finer clock than the kernel's own for files."""
    now = time.time_ns()
    os.utime(file, ns=(now, now))
