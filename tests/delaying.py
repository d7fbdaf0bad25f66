"""A proxy on an engine's socket that passes answers on late, or not at all."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path


class Proxy:
    """delay: seconds that each piece of an answer takes; stalled: none is passed on until it is not."""

    def __init__(self, path: Path, engine: Path) -> None:
        self.url = f"unix://{path}"
        self.delay, self.stalled = 0.0, False
        self._engine = engine
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._engine))
            except OSError:
                client.close()
                continue
            for source, sink, late in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass_on, args=(source, sink, late), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, late: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if late:
                    self._wait()
                sink.sendall(data)
            if late:
                self._wait()
        for sock, how in ((sink, socket.SHUT_RDWR if late else socket.SHUT_WR), (source, socket.SHUT_RD)):
            with contextlib.suppress(OSError):
                sock.shutdown(how)

    def _wait(self) -> None:
        time.sleep(self.delay)
        while self.stalled:
            time.sleep(0.05)

    def close(self) -> None:
        self.stalled, self.delay = False, 0.0
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextlib.contextmanager
def proxy(directory: Path, engine: Path) -> Iterator[Proxy]:
    made = Proxy(directory / "slow.sock", engine)
    try:
        yield made
    finally:
        made.close()
        (directory / "slow.sock").unlink()
