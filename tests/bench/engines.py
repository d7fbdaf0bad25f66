"""Podman and Docker, started on directories of their own and taken away again, for comparison.

`run` starts one container as their users do, with the limits that ours have and the host's network; it returns once the
payload has been started. A program that is missing or cannot run here raises Unable with the reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler.runtime.kernel import mountinfo, syscalls
from tests import processes
from tests.bench import bundle
from tests.bench.bell import PATIENCE
from tests.bench.launches import remove_cgroups

IMAGE = "bench:1"
CGROUPS = "bench-engines"  # below which theirs are made
_LIMITS = ["--memory", "64m", "--pids-limit", str(bundle.PIDS), "--cpus", str(bundle.CPUS)]
# Podman's own defaults may be more than this machine's root may have
_ULIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
_SLOW = 300.0  # seconds for taking hundreds of containers away


class Unable(Exception):
    """Why it cannot be measured here."""


class Engine:
    """supervisor: the name of the program that stays beside each container. daemons: those that are there once."""

    name = ""
    supervisor = ""
    daemons: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def __init__(self, base: Path) -> None:
        self.base = base
        base.mkdir()

    @contextlib.contextmanager
    def ready(self, rootfs: Path) -> Iterator[None]:
        """With the image imported; everything of it is gone afterwards."""
        if missing := [program for program in self.needs if shutil.which(program) is None]:
            raise Unable(f"{', '.join(missing)}: not installed")
        archive = self.base / "image.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(rootfs, ".")
        try:
            self.start()
            self.call("import", str(archive), IMAGE)
            yield
        finally:
            self.stop()
            self._await_end()
            for mount in reversed(mountinfo.read()):
                if mount.target.startswith(f"{self.base}/"):
                    syscalls.umount(mount.target, syscalls.MNT_DETACH)
            for name in (CGROUPS, "libpod_parent"):
                remove_cgroups(name)

    def _await_end(self) -> None:
        """Supervisors go on for a moment after their containers; what does not end is killed."""
        deadline = time.monotonic() + PATIENCE
        while left := [pid for program in (self.supervisor, *self.needs) for pid in self.pids(program)]:
            if time.monotonic() > deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def argv(self) -> list[str]:
        raise NotImplementedError

    def call(self, *words: str, seconds: float = PATIENCE) -> str:
        result = subprocess.run(
            [*self.argv(), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if result.returncode:
            said = result.stderr.strip().splitlines()
            raise Unable(f"`{self.name} {words[0]}`: {said[-1] if said else result.returncode}")
        return result.stdout

    def start(self) -> None:
        """The daemon, if there is one."""

    def run(self, name: str, argv: list[str]) -> None:
        place = ["--network", "host", "--cgroup-parent", f"/{CGROUPS}", "--name", name]
        self.call("run", "-d", *place, *_LIMITS, *self.extra(), IMAGE, *argv)

    def extra(self) -> list[str]:
        return []

    def stop(self) -> None:
        raise NotImplementedError

    def pids(self, program: str) -> list[int]:
        """Of its processes, told from strangers by our directory in their command lines."""

        def is_one(pid: int) -> bool:
            words = processes.cmdline(pid)
            return bool(words) and Path(words[0]).name == program and str(self.base) in " ".join(words)

        return [each.pid for each in processes.table().values() if each.state not in "ZX" and is_one(each.pid)]


class Podman(Engine):
    name = "podman"
    supervisor = "conmon"
    needs = ("podman", "runc", "conmon")

    def argv(self) -> list[str]:
        places = [word for key in ("root", "runroot", "tmpdir") for word in (f"--{key}", str(self.base / key))]
        runtime = ["--runtime", shutil.which("runc") or "runc"]
        return ["podman", *places, "--cgroup-manager", "cgroupfs", "--events-backend", "none", *runtime]

    def extra(self) -> list[str]:
        return _ULIMITS

    def stop(self) -> None:
        with contextlib.suppress(Unable):
            self.call("rm", "--all", "--force", "--time", "0", seconds=_SLOW)


class Docker(Engine):
    name = "docker"
    supervisor = "containerd-shim-runc-v2"
    daemons = ("dockerd", "containerd")
    needs = ("docker", "dockerd")
    _daemon: subprocess.Popen[bytes] | None = None

    def argv(self) -> list[str]:
        return ["docker", "--host", f"unix://{self.base}/sock"]

    def start(self) -> None:
        places = ["--data-root", "data", "--exec-root", "exec", "--pidfile", "pid"]
        flags = [word if word.startswith("--") else str(self.base / word) for word in places]
        quiet = ["--iptables=false", "--ip6tables=false", "--bridge=none"]
        with (self.base / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                ["dockerd", *flags, *quiet, "--host", f"unix://{self.base}/sock"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.call("version")
                return
            except Unable as error:
                if self._daemon.poll() is not None or time.monotonic() > deadline:
                    last = (self.base / "log").read_text(errors="replace").strip().splitlines()[-1:]
                    raise Unable(f"dockerd does not start: {' '.join(last) or error}") from None
            time.sleep(0.1)

    def stop(self) -> None:
        if self._daemon is None:
            return
        with contextlib.suppress(Unable):
            if names := self.call("ps", "--all", "--quiet").split():
                self.call("rm", "--force", *names, seconds=_SLOW)
        self._daemon.terminate()
        try:
            self._daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()


def pss(pids: list[int]) -> int:
    """Bytes: each page divided among those who share it (proc(5), smaps_rollup)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
