"""Notifications: somebody is told when a container comes to stand differently, by a command or a webhook.

    --notify 'mail-me --urgent'      run with the event as a line of JSON on its standard input
    --notify https://host/path       POST, the event as JSON

On transitions only: from one lasting status to another (`LASTING`), and when a name is gone. A crash loop is told once,
not at each of its turns. One thread, one notification at a time, each with a time limit; when they take longer than
things take to happen, the oldest are dropped, and that is logged. A receiver that fails disturbs nothing.
"""

from __future__ import annotations

import json
import logging
import queue
import shlex
import subprocess
import threading
import urllib.request
from collections.abc import Sequence

from reconciler.loop.events import Event, as_json
from reconciler.runtime import programs
from reconciler.states import EventType, Status

log = logging.getLogger(__name__)

LASTING = frozenset(Status) - {Status.PENDING, Status.PULLING, Status.STARTING, Status.STOPPING}
SECONDS = 10.0
_WAITING = 1000


class Transitions:
    """Which events are worth telling. Pure but for what was told last of each name."""

    def __init__(self) -> None:
        self._stands: dict[str, str] = {}

    def among(self, events: Sequence[Event]) -> list[Event]:
        return [event for event in events if self._is_one(event)]

    def _is_one(self, event: Event) -> bool:
        if event.name is None:
            return event.type in (EventType.SOURCE_UNKNOWN, EventType.SOURCE_KNOWN)
        if event.type is EventType.DESTROYED:
            self._stands.pop(event.name, None)
            return True
        if event.type is not EventType.STATUS:
            return False
        before = self._stands.setdefault(event.name, str(event.details["from"]))
        if event.details["to"] not in LASTING:
            return False
        self._stands[event.name] = event.details["to"]
        return bool(before != event.details["to"])


class Notifier:
    """`hear` may be called from any thread and never waits."""

    def __init__(self, receivers: Sequence[str]) -> None:
        self._receivers = tuple(receivers)
        self._transitions = Transitions()
        self._queue: queue.Queue[Event | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
        if receivers:
            self._thread.start()

    def hear(self, events: Sequence[Event]) -> None:
        if not self._receivers:
            return
        for event in self._transitions.among(events):
            self._put(event)

    def _put(self, event: Event | None) -> None:
        while True:
            try:
                self._queue.put_nowait(event)
                return
            except queue.Full:
                dropped = self._queue.get()
                log.warning("a notification was dropped, %d are waiting: %s", _WAITING, dropped)

    def close(self, seconds: float) -> None:
        """Tell what is left to tell, for so long at the most."""
        if self._receivers:
            self._put(None)
            self._thread.join(seconds)

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            for receiver in self._receivers:
                try:
                    tell(receiver, json.dumps(as_json(event)))
                except (OSError, ValueError, subprocess.SubprocessError) as error:
                    log.warning("%s could not be notified of %s: %s", receiver, event.name or event.type, error)


def tell(receiver: str, text: str) -> None:
    """Raises OSError (urllib's among them), ValueError, subprocess.SubprocessError."""
    if receiver.startswith(("http://", "https://")):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(receiver, text.encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=SECONDS):
            return
    done = programs.converse(shlex.split(receiver), (text + "\n").encode(), SECONDS, listen=False)
    if done.returncode:
        raise OSError(f"it ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-200:]}")
