"""The control socket: one request, one answer, whatever is sent."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent.control import Answer, Request, Server, ask
from reconciler.errors import ReconcilerError


async def echo(request: Request) -> Answer:
    return {"ok": True, "said": request["word"]}


async def refuse(request: Request) -> Answer:
    raise ReconcilerError("not today")


def with_server(path: Path, do: Callable[[], Any]) -> Any:
    """`do` in a thread beside a server, as the command line is beside an agent."""

    async def serve(work: Callable[[], Awaitable[Any]]) -> Any:
        server = Server(path, {"echo": echo, "refuse": refuse})
        await server.start()
        try:
            return await work()
        finally:
            await server.close()

    return asyncio.run(serve(lambda: asyncio.to_thread(do)))


def send(path: Path, data: bytes) -> Any:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return json.loads(sock.makefile().readline())


def test_a_request_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    answer = with_server(path, lambda: ask(path, {"op": "echo", "word": "hello"}, timeout=10))
    assert answer["said"] == "hello"
    assert not path.exists()


def test_a_refusal_is_raised_where_it_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with pytest.raises(ReconcilerError, match="not today"):
        with_server(path, lambda: ask(path, {"op": "refuse"}, timeout=10))


@pytest.mark.parametrize("garbage", [b"", b"\n", b"{\n", b"[1]\n", b'{"op": "no"}\n', b'{"op": []}\n', b"\xff\n"])
def test_garbage_is_answered_with_what_there_is(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "agent.sock"
    answer = with_server(path, lambda: send(path, garbage))
    assert answer == {"ok": False, "error": "not a request; there are: echo, refuse"}


def test_an_endless_request_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    answer = with_server(path, lambda: send(path, b"x" * 100_000))
    assert answer["ok"] is False


def test_the_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    mode = with_server(path, lambda: stat.S_IMODE(path.stat().st_mode))
    assert mode == 0o600


def test_a_socket_left_by_a_dead_agent_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    socket.socket(socket.AF_UNIX).bind(str(path))
    with pytest.raises(ConnectionRefusedError):
        ask(path, {"op": "echo", "word": ""}, timeout=10)
    assert with_server(path, lambda: ask(path, {"op": "echo", "word": "hi"}, timeout=10))["said"] == "hi"


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 120) / "agent.sock"
    path.parent.mkdir()
    assert with_server(path, lambda: ask(path, {"op": "echo", "word": "far"}, timeout=10))["said"] == "far"
