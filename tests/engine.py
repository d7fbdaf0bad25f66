"""A real Docker Engine of the tests' own: own directories, own socket, no network of its own, and a small image.

`dockerd` is started once for a session that needs it, and stopped with whatever it started.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import docker

from tests import processes

IMAGE = "box:1"
_APPLETS = (
    "sh",
    "sleep",
    "cat",
    "echo",
    "true",
    "false",
    "ls",
    "id",
    "env",
    "touch",
    "hostname",
    "httpd",
    "kill",
    "stty",
)


def missing() -> str:
    """Why there can be no engine here; "" when there can."""
    absent = [name for name in ("dockerd", "busybox") if shutil.which(name) is None]
    if os.geteuid() != 0:
        return "needs root: a Docker Engine"
    return f"needs {' and '.join(absent)} (Debian: docker.io, busybox-static)" if absent else ""


class Server:
    """within: words before the command, which put it where it is to run. bridge: its bridge's address, with the prefix;
    None: it has none."""

    def __init__(self, base: Path, within: Sequence[str] = (), bridge: str | None = None) -> None:
        self.base, self._within = base, within
        self._network = [f"--bip={bridge}"] if bridge else ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        self.url = f"unix://{base}/engine.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def api(self) -> Any:
        return docker.APIClient(base_url=self.url, version="auto", timeout=30)

    def start(self) -> None:
        (self.base / "pid").unlink(missing_ok=True)
        options = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        flags = [f"--{option}={self.base / name}" for option, name in options.items()]
        flags += ["--host", self.url, *self._network]
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, "dockerd", *flags, f"--storage-driver={self._driver()}", "--live-restore"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        processes.SERVERS.add(self._process.pid)
        _until(self._answers, "the engine answers", seen=lambda: (self.base / "log").read_text()[-2000:])

    def _driver(self) -> str:
        """Copies of whole images take seconds; what could do without is not for every file system."""
        found = subprocess.run(["stat", "-f", "-c", "%T", self.base], capture_output=True, text=True, check=True)
        return "overlay2" if found.stdout.strip() in ("ext2/ext3", "xfs") else "vfs"

    def _answers(self) -> bool:
        with contextlib.suppress(docker.errors.DockerException):
            return bool(self.api.ping())
        return False

    def stop(self) -> None:
        """Its containers live on (--live-restore), as they do when an engine is upgraded."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            processes.SERVERS.discard(self._process.pid)
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def load_image(self) -> None:
        self.api.import_image_from_data(_box(), repository=IMAGE.partition(":")[0], tag=IMAGE.partition(":")[2])

    def warm_up(self) -> None:
        """What it makes with its first container, and keeps, is there before any test looks at what there is."""
        body = {"Image": IMAGE, "Entrypoint": ["true"], "HostConfig": {"NetworkMode": "host"}}
        made = self.api.create_container_from_config(body, "first")["Id"]
        self.api.start(made)
        self.api.wait(made)
        self.api.remove_container(made)

    def named(self) -> dict[str, dict[str, Any]]:
        """The engine's name → what it lists, of every container."""
        return {each["Names"][0].lstrip("/"): each for each in self.api.containers(all=True)}


def _box() -> bytes:
    """A root file system with a shell, as a tar archive."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:
        add_box(tar)
    return found.getvalue()


def add_box(tar: tarfile.TarFile) -> None:
    for directory in ("bin", "tmp", "etc"):
        entry = tarfile.TarInfo(directory)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
        tar.addfile(entry)
    tar.add(shutil.which("busybox") or "", "bin/busybox")
    for applet in _APPLETS:
        add_link(tar, f"bin/{applet}", "busybox")
    add_text(tar, "etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n")


def add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    tar.addfile(link)


def add_text(tar: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text.encode()), mode
    tar.addfile(entry, io.BytesIO(text.encode()))


def _until(holds: Callable[[], bool], what: str, seen: Callable[[], object], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}; seen: {seen()}"
        time.sleep(0.05)


@contextlib.contextmanager
def running(within: Sequence[str] = (), bridge: str | None = None) -> Iterator[Server]:
    server = Server(Path(tempfile.mkdtemp(prefix="rcd", dir="/tmp")), within, bridge)
    try:
        server.start()
        server.load_image()
        server.warm_up()
        yield server
    finally:
        _clear(server)
        for mount in ("data", "exec/netns/default"):  # which the engine leaves behind
            subprocess.run(["umount", server.base / mount], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(server.base, ignore_errors=True)


def _clear(server: Server) -> None:
    """Nothing of a test is left that failed half-way."""
    with contextlib.suppress(docker.errors.DockerException):
        for each in server.api.containers(all=True):
            server.api.remove_container(each["Id"], force=True, v=True)
    server.stop()
