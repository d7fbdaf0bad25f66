"""Servers that do what none should: what they do stays in the sandbox, ends in time and says why."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.fetcher.fetcher import Fetcher
from tests import processes
from tests.integration.runtime.world import World, until
from tests.server import in_thread

ENDLESS = [b"x" * 65536]
"""To be cycled."""
HEAD = b"HTTP/1.1 200 OK\r\n"
FOUND = b"HTTP/1.1 302 Found\r\nLocation: /good\r\n"


class Raw(socketserver.ThreadingTCPServer):
    """Sends, byte for byte, what `answers` has for a path; one piece after the other, `pause` seconds apart."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.answers: dict[str, Callable[[], Iterable[bytes]]] = {
            "/good": lambda: [HEAD + b"Content-Length: 4\r\n\r\ngood"]
        }
        self.pause = 0.0
        self.sent = 0
        self.over = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Connection(socketserver.StreamRequestHandler):
    server: Raw

    def handle(self) -> None:
        path = self.rfile.readline().decode("latin-1").split()[1]
        while self.rfile.readline().strip():
            pass
        with contextlib.suppress(OSError):
            for piece in self.server.answers[path]():
                self.wfile.write(piece)
                self.server.sent += len(piece)
                if self.server.over.wait(self.server.pause):
                    return


@pytest.fixture
def raw() -> Iterator[Raw]:
    with Raw() as server, in_thread(server, server.over):
        yield server


async def fetched(world: World, uri: str, base: Path, seconds: float = 20) -> Path:
    """The sandbox, with what came."""
    sandbox = world.sandbox("web")
    sandbox.mkdir(parents=True, exist_ok=True)
    config = world.config("web", command=["true"], uris=[{"uri": uri}])
    await Fetcher(base / "cache", seconds).fetch(config, lambda text: None)
    return sandbox


async def refused(world: World, uri: str, base: Path, seconds: float = 20) -> str:
    """Why; nothing is left of it."""
    with pytest.raises(Retryable) as caught:
        await fetched(world, uri, base, seconds)
    assert list(world.sandbox("web").iterdir()) == [] and processes.fetchers() == []
    return caught.value.message


def once(text: bytes) -> Callable[[], Iterable[bytes]]:
    return lambda: [text]


def forever(beginning: bytes) -> Callable[[], Iterable[bytes]]:
    return lambda: itertools.chain([beginning], itertools.cycle(ENDLESS))


REFUSED = {
    "a redirect to itself": (once(b"HTTP/1.1 302 Found\r\nLocation: /it\r\n\r\n"), "infinite loop"),
    "a redirect to data": (once(b"HTTP/1.1 302 Found\r\nLocation: data:,x\r\n\r\n"), "data:,x"),
    "a redirect to ftp": (once(b"HTTP/1.1 302 Found\r\nLocation: ftp://h/x\r\n\r\n"), "redirected to ftp://h/x"),
    "a redirect into the air": (once(b"HTTP/1.1 302 Found\r\n\r\n"), "302"),
    "no HTTP": (once(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not speak HTTP"),
    "nothing": (once(b""), "closed connection without response"),
    "endless headers": (lambda: itertools.chain([HEAD], itertools.repeat(b"X-More: more\r\n")), "does not speak HTTP"),
    "a header without an end": (forever(HEAD + b"X-Long: "), "does not speak HTTP"),
    "chunks that are none": (once(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx"), "does not speak HTTP"),
    "chunks without an end": (once(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\ngo"), "does not speak HTTP"),
    "less than it says": (once(HEAD + b"Content-Length: 9\r\n\r\nfour"), "ended after 4 of 9 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_it_gets_wrong_is_told(name: str, posix: World, raw: Raw, base: Path) -> None:
    raw.answers["/it"], why = REFUSED[name]
    assert why in await refused(posix, raw.url("/it"), base)


async def test_what_it_says_of_a_failure_is_a_short_line(posix: World, raw: Raw, base: Path) -> None:
    raw.answers["/it"] = once(b"HTTP/1.1 404 \x1b[2J\xc3" + b"\xff\x07 gone " * 5000 + b"\r\n\r\n")
    message = await refused(posix, raw.url("/it"), base)
    assert "the server answers 404: ?[2J" in message and message.isprintable() and len(message) < 500


async def test_the_body_of_a_redirect_is_not_waited_for(posix: World, raw: Raw, base: Path) -> None:
    raw.answers["/it"] = forever(FOUND + b"\r\n")
    sandbox = await fetched(posix, raw.url("/it"), base)
    assert [(each.name, each.read_text()) for each in sandbox.iterdir()] == [("it", "good")]
    assert raw.sent < 64 << 20


async def test_what_comes_after_the_length_it_said_is_left(posix: World, raw: Raw, base: Path) -> None:
    raw.answers["/it"] = forever(HEAD + b"Content-Length: 4\r\n\r\ngood")
    sandbox = await fetched(posix, raw.url("/it"), base)
    assert (sandbox / "it").read_text().startswith("good") and (sandbox / "it").stat().st_size == 4


async def test_names_that_it_would_like_to_give_are_nothing_to_us(posix: World, raw: Raw, base: Path) -> None:
    name = b'Content-Disposition: attachment; filename="/etc/passwd"\r\nContent-Encoding: gzip\r\n'
    raw.answers["/it"] = once(HEAD + name + b"Content-Length: 4\r\n\r\ngood")
    sandbox = await fetched(posix, raw.url("/it"), base)
    assert [(each.name, each.read_text()) for each in sandbox.iterdir()] == [("it", "good")]


@pytest.mark.parametrize("beginning", [b"", HEAD + b"Content-Length: 9999\r\n\r\n"], ids=["head", "body"])
async def test_one_that_sends_a_byte_now_and_then_is_given_up(
    beginning: bytes, posix: World, raw: Raw, base: Path
) -> None:
    raw.pause = 0.1
    raw.answers["/it"] = lambda: itertools.chain([beginning], itertools.repeat(b"H"))
    message = await refused(posix, raw.url("/it"), base, seconds=0.5)
    assert message.endswith("less than 1024 bytes came in 0.5 s")


async def test_one_that_is_slow_is_waited_for(posix: World, raw: Raw, base: Path) -> None:
    """It sends for longer than any of its silences may be."""
    raw.pause = 0.25
    raw.answers["/it"] = lambda: [HEAD + b"Content-Length: 98304\r\n\r\n", *([b"x" * 4096] * 24)]
    sandbox = await fetched(posix, raw.url("/it"), base, seconds=0.5)
    assert (sandbox / "it").stat().st_size == 98304


async def test_one_that_never_ends_ends_with_its_container(either: World, raw: Raw) -> None:
    raw.answers["/it"] = forever(HEAD + b"\r\n")
    async with either.agent() as agent:
        launch = asyncio.create_task(agent.launch("web", command=["true"], uris=[{"uri": raw.url("/it")}]))
        await until("it comes", lambda: raw.sent > 1 << 20)
        await agent.destroy("web")
        with pytest.raises(Retryable, match="destroyed"):
            await launch
        assert processes.fetchers() == []
    assert not (either.sandbox("web") / "it").exists()
