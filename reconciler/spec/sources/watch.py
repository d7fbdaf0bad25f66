"""Hints that something happened below a directory, as soon as the kernel says so.

Invariant: events only ever mean "look again"; losing one costs time, never truth, so every failure
here ends in a note, and so do events that are lost. watchdog keeps the inotify watches of the tree;
its own delivery is passed by, because it holds all events back for half a second after a rename out
of the tree, to pair it with a rename in (`InotifyMoveEventGrouper.delay`). After inotify(7).
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from watchdog.observers.api import EventQueue, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

_MASK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
)
"""Nothing that reading a file causes, or every listing would call for the next."""

_JOIN_TIMEOUT = 2.0
_TOLD_SECONDS = 600.0


class _Descriptor(InotifyFD):
    """An inotify instance that is not handed on to what the agent starts."""

    def __init__(self) -> None:
        super().__init__()
        os.set_inheritable(self._inotify_fd, False)

    def _add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        """A directory made during the walk is met twice; watchdog warns of that with all its tables."""
        watch = self._get_or_create_watch(path, mask)
        watch.callbacks[id_] = callback
        return watch.wd


@dataclass(eq=False)
class _Tree(InotifyWatchGroup):
    """The watches of a tree; gives a hint from the thread that reads inotify, without a queue between.
    The hint comes last: by then a new subdirectory is watched, and whoever lists misses nothing."""

    hint: Callable[[], None] = field(kw_only=True)
    lost: Callable[[], None] = field(kw_only=True)

    def on_event(self, event: InotifyEvent) -> None:
        super().on_event(event)
        self.hint()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        super().on_watch_deleted(wd)
        self.hint()

    def on_queue_overflow(self) -> None:
        super().on_queue_overflow()
        self.lost()
        self.hint()


class _Emitter(InotifyEmitter):
    """Drains watchdog's own queue of events, which nobody reads."""

    def __init__(
        self, watch: ObservedWatch, descriptor: InotifyFD, hint: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        super().__init__(EventQueue(), watch, event_filter=[], inotify_fd=descriptor)
        self._descriptor = descriptor
        self._hint, self._lost = hint, lost

    def on_thread_start(self) -> None:
        path = os.fsencode(self.watch.path)
        self._inotify = _Tree(
            self._descriptor, path, event_mask=_MASK, is_recursive=True, hint=self._hint, lost=self._lost
        )


class Watch:
    """Watches `path` while it can; `renew` puts it right when the directory was replaced."""

    def __init__(self, path: str, on_hint: Callable[[], None]) -> None:
        self._path = path
        self._on_hint = on_hint
        self._lock = threading.Lock()
        self._wanted = False
        self._root: tuple[int, int] | None = None
        self._descriptor: _Descriptor | None = None
        self._emitter: _Emitter | None = None
        self._why_none = "not started"
        self._lost_at: float | None = None

    @property
    def watching(self) -> bool:
        return (
            self._descriptor is not None
            and self._descriptor.is_alive()
            and self._emitter is not None
            and self._emitter.is_alive()
        )

    @property
    def note(self) -> str:
        """Why there are no events, or that some were lost not long ago; "" for neither."""
        lost_at = self._lost_at
        if self._why_none or lost_at is None or not 0 <= time.time() - lost_at < _TOLD_SECONDS:
            return self._why_none
        at = datetime.fromtimestamp(lost_at, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        why = "more came at once than are kept (fs.inotify.max_queued_events)"
        return f"events from {self._path} were lost at {at}, {why}; the listing after them saw what there is"

    def start(self) -> None:
        with self._lock:
            self._wanted = True
            self._arm()

    def stop(self) -> None:
        with self._lock:
            self._wanted = False
            self._disarm()
            self._why_none = "stopped"

    def renew(self) -> None:
        """Watch anew when the watch has died, or the path has come to mean another directory."""
        with self._lock:
            if self._wanted and not (self.watching and self._root == self._identity()):
                self._disarm()
                self._arm()

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = Path(self._path).stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _hint(self) -> None:
        if self._wanted:
            self._on_hint()

    def _lost(self) -> None:
        self._lost_at = time.time()

    def _arm(self) -> None:
        self._root = self._identity()
        try:
            self._descriptor = _Descriptor()
            self._descriptor.start()
            # inotify would watch a link itself, not the directory it leads to
            watch = ObservedWatch(os.path.realpath(self._path), recursive=True)
            self._emitter = _Emitter(watch, self._descriptor, self._hint, self._lost)
            self._emitter.start()
            self._why_none = ""
        except OSError as error:
            self._disarm()
            self._why_none = f"no events from {self._path}, changes are seen by listing: {_why(error)}"

    def _disarm(self) -> None:
        """The emitter is not waited for: it may sleep half a second, and gives no hints."""
        for thread in (self._emitter, self._descriptor):
            if thread is not None and thread.is_alive():
                thread.stop()
        if self._descriptor is not None and self._descriptor.is_alive():
            self._descriptor.join(_JOIN_TIMEOUT)
        self._emitter = self._descriptor = None


def _why(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        return "no inotify instance is left (fs.inotify.max_user_instances)"
    if error.errno == errno.ENOSPC:
        return "no inotify watch is left (fs.inotify.max_user_watches)"
    return error.strerror or str(error)
