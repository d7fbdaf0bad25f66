"""Network namespaces made ahead of their containers, each held by a descriptor alone and gone when that is closed.

    take ─▶ one that is ready, or else a new one; in the background KEPT are made ready again
    none ─▶ nobody has a network any more: none is kept

To make one takes the kernel 1.5 ms and more, whatever is to be in it; a launch that finds one ready enters it
(setns(2)) and is connected before there is a process. Nothing else refers to them, so an agent that dies leaves none.
They belong to the host's user namespace: a container in one of its own gets its network with the clone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from reconciler.runtime.kernel import syscalls
from reconciler.runtime.kernel.rtnetlink import Rtnetlink

log = logging.getLogger(__name__)

KEPT = 2
_PAUSE = 0.05  # seconds that a launch has for itself before the next one is made ready
_AFTER_FAILURE = 5.0


class Namespace:
    """A network namespace in which no process is yet. fd: ours."""

    def __init__(self, fd: int, inside: Rtnetlink | None = None) -> None:
        self.fd = fd
        self._inside = inside

    @classmethod
    def of(cls, pid: int) -> Namespace:
        """Of a process that is blocked."""
        return cls(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    def inside(self) -> Rtnetlink:
        """A socket belongs to the namespace its thread was in: one goes there, makes it, and ends."""

        def make() -> Rtnetlink:
            syscalls.setns(self.fd, syscalls.CLONE_NEWNET)
            return Rtnetlink()

        if self._inside is None:
            with ThreadPoolExecutor(1) as elsewhere:
                self._inside = elsewhere.submit(make).result()
        return self._inside

    def give_away(self) -> int:
        """The descriptor, from now on the caller's to close."""
        fd, self.fd = self.fd, -1
        self.close()
        return fd

    def close(self) -> None:
        if self._inside is not None:
            self._inside.close()
            self._inside = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Namespaces:
    """Safe in any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: list[Namespace] = []
        self._wanted = 0
        self._maker: threading.Thread | None = None

    def take(self) -> Future[Namespace]:
        """At once, or very soon; the caller's to close. Fails with OSError."""
        taken: Future[Namespace] = Future()
        with self._changed:
            self._wanted = KEPT
            found = self._ready.pop() if self._ready else None
            if self._maker is None:
                self._maker = threading.Thread(target=self._make_ready, name="network namespaces", daemon=True)
                self._maker.start()
            self._changed.notify()
        if found is not None:
            taken.set_result(found)
        else:
            threading.Thread(target=_make_for, args=(taken,), name="network namespace", daemon=True).start()
        return taken

    def none(self) -> None:
        """Keep none until the next one is taken."""
        with self._changed:
            self._wanted = 0
            kept, self._ready = self._ready, []
            self._changed.notify()
        for each in kept:
            each.close()

    def _make_ready(self) -> None:
        """In a thread of its own, which is in the one that it made last, and ends when none is wanted."""
        while self._lacking():
            time.sleep(_PAUSE)
            try:
                made = _make()
            except OSError as error:
                log.warning("no network namespace can be made ready: %s", error)
                time.sleep(_AFTER_FAILURE)
                continue
            with self._changed:
                if kept := len(self._ready) < self._wanted:
                    self._ready.append(made)
            if not kept:
                made.close()

    def _lacking(self) -> bool:
        """Waits until one is; False when none is wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._wanted or len(self._ready) < self._wanted)
            if not self._wanted:
                self._maker = None
            return bool(self._wanted)


def _make_for(taken: Future[Namespace]) -> None:
    try:
        taken.set_result(_make())
    except OSError as error:
        taken.set_exception(error)


def _make() -> Namespace:
    """And enter it, with `lo` up: the caller's thread is to end."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.loopback_up()
        return Namespace(fd, Rtnetlink())
    except BaseException:
        os.close(fd)
        raise
