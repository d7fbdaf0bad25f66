"""Registries on loopback: Debian's, and one of the tests' own that breaks off, lies and leads astray."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests import processes

_CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {base}/data}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
"""


def missing() -> str:
    """Why there can be no real one here; "" when there can."""
    return "" if shutil.which("docker-registry") else "needs docker-registry (Debian: docker-registry)"


@contextlib.contextmanager
def running(base: Path) -> Iterator[str]:
    """Its HOST:PORT."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base.mkdir()
    (base / "config.yml").write_text(_CONFIG.format(base=base, port=port))
    with (base / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(base / "config.yml")], stdout=log, stderr=log)
    processes.SERVERS.add(server.pid)
    try:
        deadline = time.monotonic() + 30
        while not _answers(port):
            assert server.poll() is None and time.monotonic() < deadline, (base / "log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)
        processes.SERVERS.discard(server.pid)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5).status == 200)
    return False


def push(registry: str, repository: str, tag: str, layout: Path) -> str:
    """The only image of an OCI layout directory. Returns its digest."""
    blobs = layout / "blobs" / "sha256"
    digest = str(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])
    manifest = (blobs / digest.partition(":")[2]).read_bytes()
    base = f"http://{registry}/v2/{repository}"
    for path in blobs.iterdir():
        place = _send("POST", f"{base}/blobs/uploads/", b"").headers["Location"]
        _send("PUT", f"{place}&digest=sha256:{path.name}", path.read_bytes())
    kind = json.loads(manifest)["mediaType"]
    _send("PUT", f"{base}/manifests/{tag}", manifest, kind)
    return digest


def _send(method: str, url: str, data: bytes, kind: str = "application/octet-stream") -> Any:
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    return urllib.request.urlopen(request, timeout=30)


Fault = Callable[["Answering", bytes], bytes | None]
"""Given an answer's body: another one, or None when it has answered itself."""


class Answering(http.server.BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        stub, path = self.server, self.path.partition("?")[0]
        stub.asked.append((self.headers["Host"], path, self.headers.get("Authorization"), self.headers.get("Range")))
        if path == "/token":
            self.send(200, b'{"token": "let-me-in"}')
            return
        if self.headers.get("Authorization") != "Bearer let-me-in" and not path.startswith("/elsewhere/"):
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="stub",scope="pull"'
            self.send(401, b"{}", {"WWW-Authenticate": realm})
            return
        body: bytes | None = stub.content(path.rpartition("/")[2])
        fault = next((fault for part, fault in stub.faults.items() if part in path), None)
        body = fault(self, body) if fault else body
        if body is not None:
            self.send(200, body)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        """cut: close the connection after so many bytes of it."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None

    def log_message(self, *args: Any) -> None:
        return


class Stub(http.server.ThreadingHTTPServer):
    """Serves an OCI layout directory to whoever has a token. asked: (host, path, Authorization, Range) of each."""

    daemon_threads = True

    def __init__(self, layout: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.layout = layout
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        self.faults: dict[str, Fault] = {}

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def content(self, name: str) -> bytes:
        digest = name if name.startswith("sha256:") else self.manifest()
        return (self.layout / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes()

    def manifest(self) -> str:
        return str(json.loads((self.layout / "index.json").read_bytes())["manifests"][0]["digest"])

    def layers(self) -> list[str]:
        return [each["digest"] for each in json.loads(self.content("latest"))["layers"]]


@contextlib.contextmanager
def stub(layout: Path) -> Iterator[Stub]:
    with Stub(layout) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
