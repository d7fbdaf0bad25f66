"""Real servers of repositories on loopback: sshd with keys of its own, and git's smart HTTP behind TLS and a password.

Both run in the nursery, each on a port that the kernel chose; neither reads a file of the machine's own.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket

from tests.e2e.world import World

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
USER, PASSWORD = "ann", "only-in-netrc"


def _key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@contextlib.contextmanager
def ssh_server(world: World) -> Iterator[tuple[int, str]]:
    """Its port, and what GIT_SSH_COMMAND lets git in with."""
    directory = world.base / "sshd"
    directory.mkdir(mode=0o700)
    host, mine = _key(directory / "host"), _key(directory / "mine")
    (directory / "authorized").write_text(mine.with_suffix(".pub").read_text())
    port = _free_port()
    kind, key = host.with_suffix(".pub").read_text().split()[:2]
    (directory / "known").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    options = {
        "HostKey": host,
        "AuthorizedKeysFile": directory / "authorized",
        "ListenAddress": f"127.0.0.1:{port}",
        "PermitRootLogin": "prohibit-password",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
    }
    (directory / "config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it separates privileges; it will not start without
    argv = [str(SSHD), "-D", "-e", "-f", str(directory / "config")]
    with (directory / "log").open("w") as log:
        server = world.nursery.spawn(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _listening(port, lambda: (directory / "log").read_text())
        known = f"-o UserKnownHostsFile={directory / 'known'} -o StrictHostKeyChecking=yes"
        yield port, f"ssh -F none -i {mine} -o IdentitiesOnly=yes {known}"
    finally:
        server.terminate()
        server.wait(10)


@contextlib.contextmanager
def https_server(world: World, repositories: Path) -> Iterator[int]:
    """Its port. HOME gets what a user writes there: the certificate to trust in .gitconfig, the password in .netrc."""
    certificate, key = world.base / "tls.crt", world.base / "tls.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*made, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(_Backend):
        root = repositories

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (world.base / ".gitconfig").write_text(f"[http]\n\tsslCAInfo = {certificate}\n")
    (world.base / ".netrc").write_text(f"machine localhost login {USER} password {PASSWORD}\n")
    (world.base / ".netrc").chmod(0o600)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class _Backend(BaseHTTPRequestHandler):
    """git-http-backend(1) by RFC 3875, for whoever knows the password."""

    root: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self._body())

    def _serve(self, body: bytes) -> None:
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            return self._answer(401, [("WWW-Authenticate", 'Basic realm="specs"')], b"")
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": str(self.root),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": USER,
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        fields = [(name, value) for name, _, value in (line.partition(": ") for line in head.decode().split("\r\n"))]
        status = next((int(value.split()[0]) for name, value in fields if name.lower() == "status"), 200)
        return self._answer(status, [each for each in fields if each[0].lower() != "status"], answer)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        print(format % arguments, file=sys.stderr)


def _free_port() -> int:
    with socket(AF_INET, SOCK_STREAM) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _listening(port: int, log: object) -> None:
    deadline = time.monotonic() + 10
    while True:
        with socket(AF_INET, SOCK_STREAM) as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, f"nothing listens on port {port}: {log() if callable(log) else log}"
        time.sleep(0.01)
