"""The daemon of `reconciler run`: wiring, signals, the control socket, and the line `ready`.

    Source ──hints──▶ Reconciler ◀──exits── Containerizer        control socket ──▶ Reconciler

Holds the lock for as long as it lives. SIGTERM and SIGINT end the agent, never a container. `ready` is said once
each name has been tried: on stdout, and to whoever asked by NOTIFY_SOCKET (sd_notify(3)).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial

from reconciler import __version__
from reconciler.agent import metrics, node, sources
from reconciler.agent.collecting import collect
from reconciler.agent.control import Answer, Handler, Request, Server
from reconciler.agent.eventlog import EventLog
from reconciler.agent.lock import AgentLock, owner_id
from reconciler.agent.notify import Notifier
from reconciler.agent.options import AgentOptions
from reconciler.agent.paths import Places
from reconciler.agent.scraping import Scraping
from reconciler.agent.sources import SourceChoice
from reconciler.agent.store import Store
from reconciler.errors import ReconcilerError
from reconciler.loop.events import Event
from reconciler.loop.health import as_json
from reconciler.loop.outcome import Outcome
from reconciler.loop.reconciler import Reconciler
from reconciler.loop.suspending import Suspension
from reconciler.runtime.build import build
from reconciler.runtime.isolation import choose_launcher
from reconciler.states import EventType

_NOTIFY_SECONDS = 5.0

log = logging.getLogger(__name__)


class Daemon:
    """One agent on one source."""

    def __init__(
        self,
        places: Places,
        choice: SourceChoice,
        options: AgentOptions,
        notify: Sequence[str],
        scraped_at: str | None,
    ) -> None:
        self.places = places
        self.notifier = Notifier(notify)
        self._events = EventLog(places)
        self._choice = choice
        self.source = sources.build(choice, places, self._wake)
        containerizer = build(options.settings(places, owner_id(places)), lambda name: self._wake())
        store = Store(places, self.notifier.hear)
        self.reconciler = Reconciler(self.source, containerizer, store, settings=node.settings(options))
        self._headroom = options.image_disk_headroom
        self._collecting: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._scraping = Scraping(scraped_at, self._metrics) if scraped_at is not None else None

    def _wake(self) -> None:
        """From any thread."""
        self.reconciler.wake()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        server = Server(self.places.control, self._handlers())
        await asyncio.to_thread(self.source.start)
        self._tell(EventType.AGENT_STARTED, f"reconciler {__version__}, pid {os.getpid()}, on {self._choice}")
        try:
            if self._scraping is not None:
                log.info("metrics at %s", await self._scraping.start())
            await self.reconciler.start()
            await server.start()
            await self.reconciler.run(self._stop, self._ready)
        finally:
            if self._collecting is not None:
                self._collecting.cancel()
            _notify("STOPPING=1")
            if self._scraping is not None:
                self._scraping.close()
            await server.close()
            await sources.stop(self.source)
            await self.reconciler.close()
            self._tell(EventType.AGENT_STOPPED, f"pid {os.getpid()}; containers stay")
            await asyncio.to_thread(self.notifier.close, _NOTIFY_SECONDS)

    def _ready(self) -> None:
        """What is asked for is known from here on."""
        _say_ready()
        collecting = collect(self.places, self._headroom, self._images, partial(self._tell, EventType.IMAGES_REMOVED))
        self._collecting = asyncio.create_task(collecting, name="collecting images")

    def _images(self) -> list[str]:
        specs = (each.spec for each in self.reconciler.desired.containers.values())
        return [image.reference for spec in specs for _, image in spec.images]

    def _tell(self, kind: EventType, message: str) -> None:
        self._events.append([Event(time.time(), kind, None, message)])

    async def _metrics(self) -> str:
        return await asyncio.to_thread(metrics.look, self.places, self.reconciler.figures())

    # ---- control

    def _handlers(self) -> dict[str, Handler]:
        return {
            "ping": self._ping,
            "apply": self._apply,
            "destroy": self._destroy,
            "suspend": self._suspend,
            "resume": self._resume,
            "rollback": self._roll_back,
            "rollforward": self._roll_forward,
            "approve": self._approve,
            "checks": self._checks,
            "figures": self._figures,
        }

    async def _ping(self, request: Request) -> Answer:
        return {"ok": True, "pid": os.getpid(), "source": str(self._choice)}

    async def _apply(self, request: Request) -> Answer:
        source = request.get("source")
        if source != str(self._choice):
            raise ReconcilerError(f"the running agent converges {self._choice}, not {source}")
        return _answer(await sources.converge(self.source, self.reconciler, _seconds(request)))

    async def _destroy(self, request: Request) -> Answer:
        names = _names(request)
        if wanted := self.reconciler.wanted(names):
            origin = self.reconciler.desired.containers[wanted[0]].origin
            raise ReconcilerError(
                f"{', '.join(wanted)}: still asked for by {origin.file}:{origin.line}, so it would come back at once; "
                f"take it out of its file, or suspend it first (`reconciler suspend {' '.join(wanted)}`)"
            )
        return _answer(await self.reconciler.destroy(names, _seconds(request)))

    async def _suspend(self, request: Request) -> Answer:
        suspension = Suspension(str(request.get("by", "")), time.time())
        return _answer(await self.reconciler.suspend(_names(request), suspension, _seconds(request)))

    async def _resume(self, request: Request) -> Answer:
        return _answer(await self.reconciler.resume(_names(request)))

    async def _roll_back(self, request: Request) -> Answer:
        to = request.get("to")
        if to is not None and not isinstance(to, int):
            raise ReconcilerError("to: must be the number of a revision, or null")
        return _answer(await self.reconciler.roll_back(_name(request), to, str(request.get("by", ""))))

    async def _roll_forward(self, request: Request) -> Answer:
        return _answer(await self.reconciler.roll_forward(_name(request)))

    async def _checks(self, request: Request) -> Answer:
        found = self.reconciler.checks()
        return {"ok": True, "checks": {name: [as_json(watch) for watch in found[name]] for name in sorted(found)}}

    async def _figures(self, request: Request) -> Answer:
        return {"ok": True, "figures": self.reconciler.figures()}

    async def _approve(self, request: Request) -> Answer:
        everything = request.get("names") is None
        return {"ok": True, "approved": sorted(self.reconciler.approve(None if everything else _names(request)))}


def _answer(outcome: Outcome) -> Answer:
    return {"ok": True, "code": outcome.code, "message": outcome.message}


def _names(request: Request) -> list[str]:
    names = request.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ReconcilerError("names: must be a list of names")
    return names


def _name(request: Request) -> str:
    name = request.get("name")
    if not isinstance(name, str):
        raise ReconcilerError("name: must be a name")
    return name


def _seconds(request: Request) -> float:
    seconds = request.get("timeout")
    if not isinstance(seconds, int | float):
        raise ReconcilerError("timeout: must be a number of seconds")
    return float(seconds)


def run(
    places: Places,
    choice: SourceChoice,
    options: AgentOptions,
    notify: Sequence[str] = (),
    scraped_at: str | None = None,
) -> int:
    """Until SIGTERM or SIGINT. notify: commands and webhooks, see `notify`; scraped_at: see `scraping`. Raises
    ReconcilerError for what keeps it from starting."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    name, why = choose_launcher(options.launcher)
    with AgentLock(places, str(choice), options.remember()):
        if choice.doubt:
            log.warning(choice.doubt)
        log.info("launcher %s (%s); root %s, runtime directory %s", name, why, places.root, places.runtime_dir)
        asyncio.run(_run(places, choice, options, notify, scraped_at))
    return 0


async def _run(
    places: Places, choice: SourceChoice, options: AgentOptions, notify: Sequence[str], scraped_at: str | None
) -> None:
    await Daemon(places, choice, options, notify, scraped_at).run()


def _say_ready() -> None:
    try:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    except BrokenPipeError:
        log.warning("nobody reads our standard output any more")
    _notify("READY=1")


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            log.warning("the service manager could not be told %s: %s", state, error)
