"""The daemon of `reconciler run`: wiring, signals, the control socket, and the line `ready`.

    DirectorySource ──hints──▶ Reconciler ◀──exits── Containerizer        control socket ──▶ Reconciler

Holds the lock for as long as it lives. SIGTERM and SIGINT end the agent, never a container. `ready` is said once
each name has been tried: on stdout, and to whoever asked by NOTIFY_SOCKET (sd_notify(3)).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from reconciler.agent.control import Answer, Handler, Request, Server
from reconciler.agent.lock import AgentLock, owner_id
from reconciler.agent.options import AgentOptions
from reconciler.agent.paths import Places
from reconciler.agent.store import Store
from reconciler.errors import ReconcilerError
from reconciler.loop.reconciler import Reconciler
from reconciler.runtime.build import build, choose_launcher
from reconciler.spec.sources.directory import DirectorySource

log = logging.getLogger(__name__)


class Daemon:
    """One agent on one source."""

    def __init__(self, places: Places, directory: Path, options: AgentOptions) -> None:
        self.places = places
        self._loop = asyncio.get_running_loop()
        self.source = DirectorySource(directory, self._hint)
        self.containerizer = build(options.settings(places, owner_id(places)), lambda name: self.wake())
        self.reconciler = Reconciler(self.source, self.containerizer, Store(places))
        self._stop = asyncio.Event()

    def _hint(self) -> None:
        """From the thread that watches; the loop may just have been closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        self.reconciler.wake()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        server = Server(self.places.control, self._handlers())
        await asyncio.to_thread(self.source.start)
        try:
            await self.reconciler.start()
            await server.start()
            await self.reconciler.run(self._stop, _say_ready)
        finally:
            _notify("STOPPING=1")
            await server.close()
            await asyncio.to_thread(self.source.stop)
            await self.containerizer.close()

    # ---- control

    def _handlers(self) -> dict[str, Handler]:
        return {"ping": self._ping, "apply": self._apply, "destroy": self._destroy, "approve": self._approve}

    async def _ping(self, request: Request) -> Answer:
        return {"ok": True, "pid": os.getpid(), "source": self.source.identity}

    async def _apply(self, request: Request) -> Answer:
        if request.get("source") != self.source.identity:
            raise ReconcilerError(f"the running agent converges {self.source.identity}, not {request.get('source')}")
        outcome = await self.reconciler.apply(float(request["timeout"]))
        return {"ok": True, "converged": outcome.converged, "messages": list(outcome.messages)}

    async def _destroy(self, request: Request) -> Answer:
        names = [str(name) for name in request["names"]]
        await self.reconciler.destroy(names)
        return {"ok": True}

    async def _approve(self, request: Request) -> Answer:
        names = request.get("names")
        approved = self.reconciler.approve(None if names is None else [str(name) for name in names])
        return {"ok": True, "approved": sorted(approved)}


def run(places: Places, directory: Path, options: AgentOptions) -> int:
    """Until SIGTERM or SIGINT. Raises ReconcilerError for what keeps it from starting."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    name, why = choose_launcher(options.launcher)
    with AgentLock(places, str(directory), options.remember()):
        log.info("launcher %s (%s); root %s, runtime directory %s", name, why, places.root, places.runtime_dir)
        asyncio.run(_run(places, directory, options))
    return 0


async def _run(places: Places, directory: Path, options: AgentOptions) -> None:
    await Daemon(places, directory, options).run()


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
