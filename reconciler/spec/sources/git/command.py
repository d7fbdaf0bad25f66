"""Running git on what strangers wrote: no prompt, no hook, no transport but one, bounded in time and in bytes.

Invariants: nothing of a repository is ever checked out, so no hook, filter, submodule or link of it takes effect;
each call is a session of its own that is ended with all its children, by coreutils' timeout(1) even when the
agent is dead; no file that a call writes, its output included, grows beyond `MAX_FILE`. After git-config(1), git(1).
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

MAX_FILE = 256 * 1024 * 1024
_LATE = 5.0
"""Seconds that timeout(1) is given beyond its own."""
_KEPT = ("HOME", "PATH", "USER", "LOGNAME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "TMPDIR")
_KEPT_PREFIXES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ssl_cert_", "curl_ca_bundle")
_SSH_OPTIONS = "-o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=2"
_TELLING = ("fatal:", "error:", "ssh:", "ERROR:")
_ASIDE = ("warning:", "hint:", "Warning:", "remote:", "@")
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsync=committed,reference",
    "core.fsmonitor=false",
    "fetch.recurseSubmodules=no",
    "fetch.fsckObjects=true",
    "fetch.writeCommitGraph=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=30",
    "log.showSignature=false",
)


class GitFailed(Exception):
    """The message is git's own, in one line."""


class Git:
    """Commands on one bare repository. `stop`, from any thread, ends the one that runs and refuses others."""

    def __init__(self, repository: Path, scheme: str) -> None:
        self._repository = repository
        self._environ = environment(os.environ, scheme)
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(
        self,
        *arguments: str,
        seconds: float = 60.0,
        settings: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> bytes:
        """What it prints. settings: more of git's, such as "gc.auto=0"; environ: on top. Raises GitFailed."""
        words = [word for setting in (*_SETTINGS, *settings) for word in ("-c", setting)]
        git = ["git", f"--git-dir={self._repository}", *words, *arguments]
        # dash and POSIX count in blocks of 512 bytes; the limit is there before git is
        limited = ["sh", "-c", f'ulimit -f {MAX_FILE // 512} && exec "$@"', "sh", *git]
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            try:
                argv = ["timeout", "-s", "KILL", f"{seconds:g}", *limited]
                process = self._spawn(argv, {**self._environ, **(environ or {})}, given, out, err)
            except OSError as error:
                raise GitFailed(f"git cannot be run: {error}") from error
            code = self._end(process, seconds + _LATE)
            if code == 0:
                out.seek(0)
                return out.read()
            err.seek(0)
            raise GitFailed(self._why(code, err.read(65536).decode(errors="replace"), arguments[0], seconds))

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._running is not None:
                _kill(self._running)

    def _spawn(
        self, argv: list[str], environ: Mapping[str, str], stdin: IO[bytes], out: IO[bytes], err: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise GitFailed("the source was stopped")
            self._running = subprocess.Popen(
                argv, stdin=stdin, stdout=out, stderr=err, env=environ, cwd="/", start_new_session=True
            )
            return self._running

    def _end(self, process: subprocess.Popen[bytes], seconds: float) -> int:
        """Its exit code, once nothing is left of its process group; by force after `seconds`. Reaped last: until
        then nobody else can have its number."""
        watched = os.pidfd_open(process.pid)
        try:
            select.select([watched], [], [], seconds)
        finally:
            os.close(watched)
            with self._lock:
                self._running = None
                _kill(process)
        return process.wait()

    def _why(self, code: int, said: str, verb: str, seconds: float) -> str:
        if self._stopped:
            return "the source was stopped"
        if code in (-signal.SIGKILL, 124, 128 + signal.SIGKILL):
            return f"git {verb} took longer than {seconds:g} s and was ended"
        if code in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ) or "File too large" in said:
            return f"git {verb} would write more than {MAX_FILE >> 20} MiB and was ended"
        return telling(said) or f"git {verb} ended with {code}"


def environment(environ: Mapping[str, str], scheme: str) -> dict[str, str]:
    """The agent's own, but for what would ask somebody, or have git look at another repository. The configuration of
    the agent's user counts: it has credential helpers, proxies, safe.directory."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or name.lower().startswith(_KEPT_PREFIXES) or name.startswith("GIT_CONFIG_GLOBAL")
    }
    ssh = environ.get("GIT_SSH_COMMAND") or shlex.quote(environ.get("GIT_SSH") or "ssh")
    return kept | {
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": scheme,
        "GIT_ASKPASS": "false",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_SSH_COMMAND": f"{ssh} {_SSH_OPTIONS}",
        "GIT_TERMINAL_PROMPT": "0",
        "SSH_ASKPASS_REQUIRE": "never",
    }


def telling(said: str) -> str:
    """Of what git wrote, the lines that say why it failed: its own, and what a transport (ssh, which has no mark of its
    own) said right before the first of them."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [number for number, line in enumerate(lines) if line.startswith(_TELLING)]
    chosen = [lines[number] for number in marked] or lines[-1:]
    if marked and marked[0] and not lines[marked[0] - 1].startswith(_ASIDE):
        chosen.insert(0, lines[marked[0] - 1])
    return "; ".join(dict.fromkeys(chosen))[:500]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all of its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
