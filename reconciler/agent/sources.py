"""The only place that knows which source is made of what was given on the command line: a directory or a git URL."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.agent.contents import followed
from reconciler.agent.paths import Places, absolute
from reconciler.loop.outcome import Outcome
from reconciler.loop.reconciler import Reconciler
from reconciler.runtime.threads import in_thread
from reconciler.spec.sources.directory import DirectorySource
from reconciler.spec.sources.git.address import GitAddress, is_git, parse
from reconciler.spec.sources.git.source import GitSource
from reconciler.spec.sources.source import Source

POLL_INTERVAL = 30.0
_STOP_SECONDS = 5.0
_LEAST = 1.0
"""Seconds to converge in, however long the fetch took."""


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """place: an absolute path, links not followed, or a URL; interval: seconds between two looks at a remote;
    signers: who may sign what is taken from it, None for anybody."""

    place: Path | GitAddress
    interval: float = POLL_INTERVAL
    signers: Path | None = None

    def __str__(self) -> str:
        return str(self.place)

    @property
    def remote(self) -> bool:
        return isinstance(self.place, GitAddress)

    @property
    def doubt(self) -> str:
        """What looks like a mistake, "" when nothing does."""
        missing = isinstance(self.place, Path) and not self.place.is_dir()
        return f"{self.place} is no directory: nothing is started or pruned until it is" if missing else ""


def chosen(text: str, interval: float = POLL_INTERVAL, signers: str | None = None) -> SourceChoice:
    """Raises ReconcilerError for a URL that cannot be one."""
    return SourceChoice(
        parse(text) if is_git(text) else absolute(text), interval, absolute(signers) if signers else None
    )


def build(choice: SourceChoice, places: Places, on_hint: Callable[[], None]) -> Source:
    """Only for who holds the lock."""
    return followed(_built(choice, places.sources, on_hint), places)


@contextlib.contextmanager
def looked_at(choice: SourceChoice, places: Places) -> Iterator[Source]:
    """A source that leaves everything under ROOT as it is: what it fetches goes into a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="reconciler-") as directory:
        copy = Path(directory, "sources")
        if isinstance(choice.place, GitAddress) and places.sources.is_dir():
            shutil.copytree(places.sources, copy, symlinks=True)
        yield followed(_built(choice, copy, lambda: None), places, dry=True)


async def converge(source: Source, reconciler: Reconciler, seconds: float) -> Outcome:
    """Once, on what the source says now; where it cannot be had, on what it said last, and that is code 1."""
    deadline = time.monotonic() + seconds
    try:
        async with asyncio.timeout(seconds):
            why = await asyncio.to_thread(source.refresh)
    except TimeoutError:
        why = f"{source.identity} did not answer within {seconds:g} s"
    outcome = await reconciler.apply(max(deadline - time.monotonic(), _LEAST))
    if not why:
        return outcome
    return replace(outcome, code=outcome.code or 1, message="\n".join(filter(None, (why, outcome.message))))


async def stop(source: Source) -> None:
    """One that hangs is left behind."""
    await asyncio.wait({asyncio.ensure_future(in_thread(source.stop))}, timeout=_STOP_SECONDS)


def _built(choice: SourceChoice, directory: Path, on_hint: Callable[[], None]) -> Source:
    if isinstance(choice.place, Path):
        return DirectorySource(choice.place, on_hint)
    return GitSource(
        choice.place, directory, on_hint, interval=choice.interval, signers=choice.signers, clock=time.time
    )
