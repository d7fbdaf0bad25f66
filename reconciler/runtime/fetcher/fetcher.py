"""The agent's side of fetching: each uri of a spec in turn, by a child process that can be killed at any time.

Invariants: a fetch that brings next to nothing for `seconds` is given up; cancelling it ends its child; every failure
names the uri and the cause. The child has the agent's variables for proxies, certificates and fsspec and no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.compression import HOME
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.fetcher import schemes
from reconciler.runtime.fetcher.cache import Cache
from reconciler.runtime.fetcher.request import Request, stalled
from reconciler.runtime.kernel import rootpaths
from reconciler.spec.attachments import Uri
from reconciler.spec.references import located
from reconciler.spec.uris import archive, foreign, is_path, local_path, place, shown
from reconciler.states import Reason

log = logging.getLogger(__name__)

STALL_SECONDS = 60.0
_PACKAGE = Path(__file__).parents[3]
_CODE = (
    "import sys; sys.path[:0] = sys.argv[1:2]; sys.path += sys.argv[2:]; "
    "from reconciler.runtime.fetcher.child import main; main()"
)
_PASSED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR", "LANG", "LC_ALL")
_KEPT = 2000
_SLACK = 5.0
"""Seconds that the child has to say itself that it stalls."""

Say = Callable[[str], None]


class Fetcher:
    """cache: where to keep what specs ask to keep."""

    def __init__(self, cache: Path, seconds: float = STALL_SECONDS) -> None:
        self._cache, self._seconds = Cache(cache), seconds

    async def fetch(self, config: ContainerConfig, say: Say) -> None:
        """Everything the spec wants in its sandbox, which is there, as the user whose it is. say: told how far it is.
        Raises Retryable, or Terminal for what only another spec can help."""
        if not config.spec.uris:
            return
        with _sandbox(config) as sandbox:
            owned = os.fstat(sandbox)
            owner = (owned.st_uid, owned.st_gid) if os.geteuid() == 0 else None
            for uri in config.spec.uris:
                await self._one(config, uri, owner, sandbox, say)

    async def _one(
        self, config: ContainerConfig, uri: Uri, owner: tuple[int, int] | None, sandbox: int, say: Say
    ) -> None:
        source = _source(config, uri)
        kind = archive(uri.uri) if uri.extract and not uri.executable else None
        request = Request(
            source=source,
            seconds=self._seconds,
            sha256=uri.sha256,
            sandbox=sandbox,
            target=uri.destination or place(uri.uri, kind),
            archive=kind,
            executable=uri.executable,
            owner=owner,
        )
        run = _Run(config.name, uri.uri, self._seconds)
        if not uri.cache:
            await run(request, say)
            return

        async def download(store: int, tell: Say) -> None:
            wanted = Request(source, self._seconds, uri.sha256, store=store, owner=owner)
            await run(wanted, tell)

        key = Cache.key(source, uri.sha256, owner)
        kept = await self._cache.get(key, download, say)
        try:
            placed = Request(**{**_fields(request), "source": f"fd:{kept}"})
            await run(placed, say, kept)
        except Retryable:
            await self._cache.drop(key)  # should it be what is wrong, the next try has another
            raise
        finally:
            os.close(kept)


def _fields(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in Request.__slots__}


def _source(config: ContainerConfig, uri: Uri) -> str:
    if not is_path(uri.uri):
        return uri.uri
    path = located(local_path(uri.uri), str(config.base))
    if not path.startswith("/"):
        raise Terminal(
            f"{config.name}: {uri.uri}: a relative path begins at the spec's directory, which a spec from a "
            "repository has not; give an absolute one",
            Reason.FETCH_FAILED,
        )
    return path


@contextlib.contextmanager
def _sandbox(config: ContainerConfig) -> Iterator[int]:
    top, beneath = config.sandbox_place
    with rootpaths.opened(top) as root:
        fd = rootpaths.open_inside(root, beneath or ".", os.O_RDONLY | os.O_DIRECTORY, links=False)
        try:
            yield fd
        finally:
            os.close(fd)


class _Run:
    """The child's life, for one uri of one container."""

    def __init__(self, name: str, uri: str, seconds: float) -> None:
        self._name, self._uri, self._seconds = name, shown(uri), seconds

    async def __call__(self, request: Request, say: Say, *more: int) -> None:
        """more: descriptors besides those that the request names."""
        fds = [fd for fd in (request.store, request.sandbox, *more) if fd is not None]
        say(f"fetching {self._uri}")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _CODE, str(_PACKAGE), *_homes(request.source)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=fds,
            cwd="/",
            env=_environment(os.environ),
            start_new_session=True,
        )
        try:
            await self._followed(process, request, say)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _followed(self, process: asyncio.subprocess.Process, request: Request, say: Say) -> None:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(request.line())
        while True:
            try:
                async with asyncio.timeout(self._seconds + _SLACK):
                    line = await process.stdout.readline()
            except TimeoutError:
                raise self._failed(stalled(self._seconds)) from None
            if not line:
                words = (await process.stderr.read(_KEPT)).decode(errors="replace").split()
                log.error("%s: the fetcher of %s died: %s", self._name, self._uri, " ".join(words))
                raise self._failed("its process died; see the agent's log")
            answer = json.loads(line)
            if "error" in answer:
                raise self._failed(answer["error"])
            if "done" in answer:
                return
            of = f" of {_mebibytes(answer['total'])}" if answer["total"] else ""
            say(f"fetching {self._uri}: {_mebibytes(answer['bytes'])}{of}")

    def _failed(self, why: str) -> Retryable:
        return Retryable(f"{self._name}: {self._uri}: {why}", Reason.FETCH_FAILED)


def _homes(source: str) -> list[str]:
    """Where what is no part of the standard library is imported from."""
    return [each for each in (HOME, schemes.home() if foreign(source) else None) if each is not None]


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in ours.items()
        if name in _PASSED_ON or name.lower().endswith("_proxy") or name.startswith(schemes.VARIABLES)
    }
