"""The process that fetches one uri: as the container's user, with nothing of ours but the descriptors it needs.

    request ▸ become the user ▸ transfer, with progress ▸ sha256 ▸ into the sandbox, or into a file of the cache

Invariant: what is fetched is at its place only once it is known to be what was asked for. Ends with the agent. What a
library may import later is imported before the user is changed, who may not be able to read it. Standard library only,
but for zstd before it had that, and for fsspec where a scheme is its own.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401
import hashlib
import http.client
import json
import os
import resource
import signal
import ssl  # noqa: F401
import sys
import time
from typing import BinaryIO

from reconciler.runtime.fetcher import placing
from reconciler.runtime.fetcher.request import SLOWEST, FetchError, Request, stalled
from reconciler.runtime.fetcher.transfer import Opened, opened
from reconciler.runtime.fetcher.unpacking import unpack
from reconciler.runtime.kernel import syscalls
from reconciler.spec.uris import foreign

_MEMORY = 1 << 30
_SAY_SECONDS = 0.5
_LONGEST = 400  # characters of an error, some of which a server may have chosen


class _Progress:
    """Lines {"bytes", "total"}, now and then, when there is something to tell: that one comes is the sign of life."""

    def __init__(self, total: int | None, patience: _Patience) -> None:
        self._total, self._done, self._said, self._told = total, 0, time.monotonic(), 0
        self._patience = patience

    def tick(self, amount: int) -> None:
        self._done += amount
        if self._done - self._told >= SLOWEST and time.monotonic() - self._said >= _SAY_SECONDS:
            self._said, self._told = time.monotonic(), self._done
            self._patience.renew()
            say(bytes=self._done, total=self._total)


class _Patience:
    """Gives up whatever is under way, with FetchError, once nothing has come of it for some seconds. In this way it
    can still clean up; the agent's own clock, which kills, is a little slower."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        signal.signal(signal.SIGALRM, self._lost)
        self.renew()

    def renew(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._seconds + _SAY_SECONDS)

    def _lost(self, _signal: int, _frame: object) -> None:
        raise FetchError(stalled(self._seconds))


def say(**answer: object) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def main() -> None:
    request = Request.of(sys.stdin.readline())
    try:
        _import(request)
        _become(request.owner)
        patience = _Patience(request.seconds)
        with opened(request.source, request.seconds) as found:
            _fetch(request, found, _Progress(found.total, patience))
    except FetchError as error:
        _complain(str(error))
    except TimeoutError:
        _complain(f"no byte came for {request.seconds:g} s")
    except OSError as error:
        where = f" ({error.filename})" if error.filename is not None else ""
        _complain(f"{error.strerror or error}{where}")
    except http.client.HTTPException as error:
        _complain(f"the server does not speak HTTP: {type(error).__name__} {error}")
    except MemoryError:
        _complain(f"needs more than {_MEMORY >> 20} MiB of memory to be unpacked")
    else:
        say(done=True)


def _complain(text: str) -> None:
    """What a server says goes to terminals: on one line, of printable characters, not too many."""
    words = " ".join(text[: 4 * _LONGEST].split())
    say(error="".join(letter if letter.isprintable() else "?" for letter in words)[:_LONGEST])


def _import(request: Request) -> None:
    if request.archive in ("zstd", "zst"):
        from reconciler.runtime import compression  # noqa: F401
    if (scheme := foreign(request.source)) is not None:
        from reconciler.runtime.fetcher import schemes

        schemes.prepare(scheme)


def _become(owner: tuple[int, int] | None) -> None:
    parent = os.getppid()
    if owner is not None:
        uid, gid = owner
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    os.umask(0o022)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user takes it back
    if os.getppid() != parent:
        os._exit(1)


def _fetch(request: Request, found: Opened, progress: _Progress) -> None:
    if request.store is not None:
        with os.fdopen(request.store, "wb") as file:
            _copy(request, found, file, progress)
        return
    if request.sandbox is None:
        raise FetchError("has nowhere to go")
    if request.archive is None:
        mode = 0o755 if request.executable else 0o644
        with placing.replacing(request.sandbox, request.target, mode) as file:
            _copy(request, found, file, progress)
        return
    with placing.passing(request.sandbox) as file:
        _copy(request, found, file, progress)
        unpack(request.archive, file, request.sandbox, request.target, progress.tick)


def _copy(request: Request, found: Opened, file: BinaryIO, progress: _Progress) -> None:
    digest = hashlib.sha256()
    for data in found.chunks():
        file.write(data)
        digest.update(data)
        progress.tick(len(data))
    file.flush()
    if request.sha256 is not None and digest.hexdigest() != request.sha256:
        raise FetchError(f"has the sha256 {digest.hexdigest()}, not {request.sha256}")
