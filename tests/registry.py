"""Registries on loopback: Debian's, and one of the tests' own that breaks off, lies and leads astray."""

from __future__ import annotations

import base64
import contextlib
import hashlib
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

from reconciler.runtime.provisioner.manifests import INDEXES, architecture
from tests import processes

_CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {base}/data}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
"""
_GUARDED = "auth: {{htpasswd: {{realm: tests, path: {base}/htpasswd}}}}\n"
SECRET = base64.b64encode(b"puller:secret").decode()
"""Of the one whom a guarded registry lets in, as Docker's config.json has it."""
_HTPASSWD = "puller:$2b$04$4NtwhWURQLiCO9SDcN4WI.AkaASmgjx7wbHcHSIamwg4MNubkJyTq\n"


def missing() -> str:
    """Why there can be no real one here; "" when there can."""
    return "" if shutil.which("docker-registry") else "needs docker-registry (Debian: docker-registry)"


@contextlib.contextmanager
def running(base: Path, *, guarded: bool = False) -> Iterator[str]:
    """Its HOST:PORT. guarded: it wants a name and a password, see SECRET."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base.mkdir()
    (base / "config.yml").write_text((_CONFIG + (_GUARDED if guarded else "")).format(base=base, port=port))
    (base / "htpasswd").write_text(_HTPASSWD)
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
        return bool(_send("GET", f"http://127.0.0.1:{port}/v2/", None).status == 200)
    return False


def push(registry: str, repository: str, tag: str, layout: Path) -> str:
    """The only image of an OCI layout directory; TAG-any is an index of it and of another machine's. Returns its
    digest."""
    blobs = layout / "blobs" / "sha256"
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    digest = str(entry["digest"])
    manifest = (blobs / digest.partition(":")[2]).read_bytes()
    base = f"http://{registry}/v2/{repository}"
    for path in blobs.iterdir():
        place = _send("POST", f"{base}/blobs/uploads/", b"").headers["Location"]
        _send("PUT", f"{place}&digest=sha256:{path.name}", path.read_bytes())
    kind = json.loads(manifest)["mediaType"]
    _send("PUT", f"{base}/manifests/{tag}", manifest, kind)
    other = json.dumps(json.loads(manifest) | {"layers": []}).encode()
    _send("PUT", f"{base}/manifests/{tag}-other", other, kind)
    found = {"os": "linux", "architecture": "s390x"}, {"os": "linux", "architecture": architecture()}
    sums = f"sha256:{hashlib.sha256(other).hexdigest()}", digest
    listed = [
        {"mediaType": kind, "digest": each, "size": len(data), "platform": platform}
        for each, data, platform in zip(sums, (other, manifest), found, strict=True)
    ]
    index = {"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": listed}
    _send("PUT", f"{base}/manifests/{tag}-any", json.dumps(index).encode(), INDEXES[0])
    return digest


def _send(method: str, url: str, data: bytes | None, kind: str = "application/octet-stream") -> Any:
    headers = {"Content-Type": kind, "Authorization": f"Basic {SECRET}"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
        return answer


Fault = Callable[["Answering", bytes], bytes | None]
"""Given an answer's body: another one, or None when it has answered itself."""


class Answering(http.server.BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        stub, path = self.server, self.path.partition("?")[0]
        stub.asked.append((self.headers["Host"], path, self.headers.get("Authorization"), self.headers.get("Range")))
        if path == "/token":
            if stub.credentials not in (None, self.headers.get("Authorization")):
                self.send(401, b"{}")
                return
            self.send(200, b'{"token": "let-me-in"}')
            return
        if self.headers.get("Authorization") != "Bearer let-me-in" and not path.startswith("/elsewhere/"):
            realm = stub.realm or f"http://{self.headers['Host']}/token"
            challenge = f'Bearer realm="{realm}",service="stub",scope="pull"'
            self.send(401, b"{}", {"WWW-Authenticate": challenge})
            return
        body: bytes | None = stub.content(path.rpartition("/")[2])
        kind = json.loads(body)["mediaType"] if "/manifests/" in path else "application/octet-stream"
        fault = next((fault for part, fault in stub.faults.items() if part in path), None)
        body = fault(self, body) if fault else body
        if body is not None:
            self.send(200, body, {"Content-Type": kind})

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
    """Serves an OCI layout directory to whoever has a token. asked: (host, path, Authorization, Range) of each.
    credentials: the Authorization that a token is given for, "Basic …"; None: whatever it is. realm: where tokens are
    given; "": here."""

    daemon_threads = True

    def __init__(self, layout: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.layout = layout
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        self.faults: dict[str, Fault] = {}
        self.credentials: str | None = None
        self.realm = ""

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
