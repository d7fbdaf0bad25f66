"""One agent per root: an flock on ROOT/lock, held for as long as the agent lives, with its pid inside.

The runtime directory, too, belongs to one root only: two agents that shared it would take each other's
containers for their own. RUNTIME/root.json says whose it is, and with which flags its containers were run: whoever
destroys them later must look in the same places. Standard library only: reading verbs ask whether an agent is alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.agent.paths import Places
from reconciler.errors import ReconcilerError

_PATIENCE = 0.25
_POLL = 0.01


class AgentAlive(ReconcilerError):
    """Another agent holds the root."""

    def __init__(self, pid: int | None, source: str | None, root: str) -> None:
        who = f"pid {pid}" if pid is not None else "another process"
        what = f", on {source}" if source else ""
        super().__init__(f"an agent is running on {root} already ({who}{what})")
        self.pid = pid
        self.source = source


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock. source: what a daemon converges; None for a command that is done soon.
    published: the rows in the runtime directory are its own, not an earlier agent's."""

    pid: int | None
    source: str | None
    published: bool = False


class AgentLock:
    """Use as a context; raises AgentAlive, or ReconcilerError for a runtime directory of another root.
    `flags` are remembered; None leaves those that are."""

    def __init__(self, places: Places, source: str | None, flags: Mapping[str, Any] | None = None) -> None:
        self._places = places
        self._source = source
        self._flags = flags
        self._fd = -1

    def __enter__(self) -> AgentLock:
        self._places.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._fd = os.open(self._places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            if not _exclusive(self._fd):
                found = _read(self._fd)
                raise AgentAlive(found.pid, found.source, str(self._places.root))
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, _line(os.getpid(), self._source, published=False), 0)
            _claim(self._places, self._flags)
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def _exclusive(fd: int) -> bool:
    """A reading verb that asks (see `holder`) is in the way for a moment only."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        time.sleep(_POLL)


def _line(pid: int, source: str | None, *, published: bool) -> bytes:
    """Of the same length whether published or not, so that a reader never sees half of it."""
    return json.dumps({"pid": pid, "source": source, "published": int(published)}).encode()


def say_published(places: Places) -> None:
    """The agent, which is us, has looked: its rows are true. Nothing happens without the lock."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(places.lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            found = _read(fd)
            if found.pid == os.getpid() and not found.published:
                os.pwrite(fd, _line(os.getpid(), found.source, published=True), 0)
        finally:
            os.close(fd)


def holder(places: Places) -> Holder | None:
    """Who runs an agent on this root; None when nobody does. Leaves the lock as it is."""
    try:
        fd = os.open(places.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(fd)
    finally:
        os.close(fd)
    return None


def _read(fd: int) -> Holder:
    try:
        data = json.loads(os.pread(fd, 65536, 0))
        return Holder(int(data["pid"]), data.get("source"), bool(data.get("published")))
    except (ValueError, KeyError, TypeError):
        return Holder(None, None)


def _claim(places: Places, flags: Mapping[str, Any] | None) -> None:
    """The runtime directory is this root's from now on."""
    places.runtime_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    before = _claimed(places)
    other = before.get("root")
    if other is not None and other != str(places.root) and _exists_elsewhere(other, places):
        raise ReconcilerError(
            f"{places.runtime_dir} is the runtime directory of the root {other}; give this root one of its own with "
            "--runtime-dir"
        )
    after = {"root": str(places.root), "flags": dict(flags) if flags is not None else before.get("flags", {})}
    if after != before:
        temporary = places.claim.with_suffix(".new")
        temporary.write_text(json.dumps(after))
        temporary.rename(places.claim)


def _claimed(places: Places) -> dict[str, Any]:
    try:
        found = json.loads(places.claim.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remembered_flags(places: Places) -> dict[str, Any]:
    """Those of the last agent on this root; {} when there was none since the machine was booted."""
    flags = _claimed(places).get("flags")
    return flags if isinstance(flags, dict) else {}


def _exists_elsewhere(other: str, places: Places) -> bool:
    """Whether the other root still exists and is not this one under another path."""
    try:
        return not places.root.samefile(other)
    except OSError:
        return False


def owner_id(places: Places) -> str:
    """The random id that marks what belongs to this root; made when the root is new."""
    try:
        return places.owner.read_text().strip()
    except FileNotFoundError:
        pass
    value = os.urandom(6).hex()
    temporary = places.owner.with_suffix(".new")
    with temporary.open("w") as file:
        file.write(value + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(places.owner)
    return value


def known_owner(places: Places) -> str | None:
    """The id of an existing root; None when there is none, without making one."""
    try:
        return places.owner.read_text().strip() or None
    except OSError:
        return None
