"""A real HTTP server on loopback, in threads: files as they are, and every way of serving them badly."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """files: path → content. Besides: /cut/… ends halfway, /stuck/… stops halfway, /to/URL redirects there.
    asked: paths, in the order of requests; `gate` holds back the second half of /stuck/…."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.gate = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.removeprefix("/")
        self.server.asked.append(path)
        if path.startswith("to/"):
            self.send_response(302)
            self.send_header("Location", path.removeprefix("to/"))
            self.end_headers()
            return
        how, _, name = path.rpartition("/")
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        if how == "cut":
            return
        if how == "stuck":
            self.server.gate.wait(60)
        self.wfile.write(content[half:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server, in_thread(server, server.gate):
        yield server


@contextmanager
def in_thread(server: socketserver.BaseServer, over: threading.Event) -> Iterator[None]:
    """It serves meanwhile. over: what its answers may wait for, set at the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        over.set()
        server.shutdown()
        thread.join()
