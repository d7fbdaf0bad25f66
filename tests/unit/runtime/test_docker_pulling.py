"""A pull over an engine's socket: what the engine answers, breaks off, or never answers. The engine is played here,
since a real one breaks off nowhere in particular."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from reconciler.runtime.docker.engine import EngineLost, Refused
from reconciler.runtime.docker.pulling import Pull

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = b'{"status": "Pulling fs layer", "id": "a"}\r\n'
Play = Callable[..., AbstractContextManager[Pull]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture
def playing(tmp_path: Path) -> Play:
    """An engine that says this of a pull, and hangs up unless it is to stay."""

    @contextlib.contextmanager
    def play(*said: bytes, stays: bool = False) -> Iterator[Pull]:
        asked = threading.Event()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1 << 16)
                asked.set()
                client.sendall(b"".join(said))
                if stays:
                    client.recv(1)  # until it is hung up on

        with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as engine:
            listener.bind(str(tmp_path / "engine"))
            listener.listen()
            served = engine.submit(serve)
            yield Pull(f"unix://{tmp_path}/engine", "box:1", "")
            served.result(10)

    return play


def run(pull: Pull) -> None:
    pull.run(lambda text: None)


def test_its_end_is_the_end_of_the_answer(playing: Play) -> None:
    with playing(HEAD, chunk(LINE[:9]), chunk(LINE[9:] + LINE), chunk(b"")) as pull:
        run(pull)


@pytest.mark.parametrize("said", [[HEAD], [HEAD, chunk(LINE)], [HEAD, chunk(LINE[:9])], [HEAD, b"ff\r\nhalf"], []])
def test_one_that_breaks_off_is_lost(playing: Play, said: list[bytes]) -> None:
    with playing(*said) as pull, pytest.raises(EngineLost):
        run(pull)


def test_an_error_is_the_engines_words_whenever_it_comes(playing: Play) -> None:
    late = chunk(b'{"error": "no space left"}\r\n')
    with playing(HEAD, chunk(LINE), late, chunk(b"")) as pull, pytest.raises(Refused, match=r"^no space left$"):
        run(pull)


def test_a_refusal_is_the_engines_words(playing: Play) -> None:
    body = b'{"message": "no such image"}'
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body)
    with playing(head, body) as pull, pytest.raises(Refused, match=r"^no such image$") as caught:
        run(pull)
    assert caught.value.status == 404


@pytest.mark.parametrize("said", [[], [HEAD, chunk(LINE)]], ids=["before", "after the head"])
def test_it_is_broken_off_from_another_thread(playing: Play, said: list[bytes]) -> None:
    """The engine sees it, too."""
    with playing(*said, stays=True) as pull, ThreadPoolExecutor(1) as other:
        over = other.submit(run, pull)
        with contextlib.suppress(TimeoutError):
            over.result(0.2)
        assert not over.done()
        pull.stop()
        with pytest.raises(EngineLost):
            over.result(10)


def test_one_that_was_stopped_before_asks_for_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "engine"))
        listener.listen()
        pull = Pull(f"unix://{tmp_path}/engine", "box:1", "")
        pull.stop()
        run(pull)
        client, _ = listener.accept()
        with client:
            assert client.recv(1) == b""
