"""The keeper's channel: messages of any size with descriptors, and whatever else a peer may send."""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.runtime.launcher import channel

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (ours, theirs):
        sock.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def give(sock: socket.socket, packet: bytes, fds: list[int]) -> None:
    sock.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])


@pytest.mark.parametrize("size", [0, 1, 65_000, 65_536, 70_000, 3_000_000])
def test_a_message_of_any_size_arrives_whole(pair: Pair, size: int) -> None:
    channel.send(pair[0], {"text": "x" * size})
    assert channel.receive(pair[1]) == ({"text": "x" * size}, [])


def test_a_body_on_either_side_of_one_packet_arrives_whole(pair: Pair) -> None:
    frame = len(json.dumps({"t": ""}, separators=(",", ":")))
    for size in (64 * 1024 - frame, 64 * 1024 - frame + 1):
        channel.send(pair[0], {"t": "y" * size})
        received = channel.receive(pair[1])
        assert received is not None and len(received[0]["t"]) == size


@pytest.mark.parametrize("size", [10, 100_000])
def test_descriptors_arrive_in_order_and_close_on_exec(pair: Pair, size: int, tmp_path: Path) -> None:
    files = [os.open(tmp_path / name, os.O_CREAT | os.O_RDWR) for name in ("a", "b", "c")]
    for fd in files:
        os.set_inheritable(fd, True)
    channel.send(pair[0], {"text": "x" * size}, files)
    received = channel.receive(pair[1])
    assert received is not None
    assert [Path(f"/proc/self/fd/{fd}").readlink().name for fd in received[1]] == ["a", "b", "c"]
    assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in received[1])
    for fd in (*files, *received[1]):
        os.close(fd)


@pytest.mark.parametrize(
    "packet",
    [b"=", b"={", b"=[]", b"=7", b"\0\0", b"hello", b"=\xff\xfe", b"@", b"=" + b"[" * 60_000],
    ids=["nothing", "half an object", "a list", "a number", "zeros", "text", "no UTF-8", "no memfd", "too deep"],
)
def test_garbage_is_refused_and_what_came_with_it_is_closed(pair: Pair, packet: bytes) -> None:
    read, write = os.pipe()
    give(pair[0], packet, [write, write])
    os.close(write)
    with pytest.raises(ValueError, match="unreadable message"):
        channel.receive(pair[1])
    os.set_blocking(read, False)
    assert os.read(read, 1) == b"", "nobody holds the other end any more"
    os.close(read)


def test_a_large_message_must_be_sealed_so_that_it_cannot_change_while_it_is_read(pair: Pair) -> None:
    memfd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.write(memfd, b"{}")
    give(pair[0], b"@", [memfd])
    with pytest.raises(ValueError, match="sealed"):
        channel.receive(pair[1])
    os.close(memfd)


def test_a_closed_peer_is_the_end_of_the_connection(pair: Pair) -> None:
    pair[0].close()
    assert channel.receive(pair[1]) is None
    with pytest.raises(BrokenPipeError):
        channel.send(pair[1], {})


def test_a_full_socket_does_not_block_the_sender(pair: Pair) -> None:
    pair[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        for _ in range(10_000):
            channel.send(pair[0], {"text": "x" * 10_000})


def test_a_socket_may_lie_deeper_than_a_socket_address_reaches(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with channel.listen(str(deep), "s") as listener, channel.connect(str(deep), "s", timeout=5) as ours:
        theirs, _ = listener.accept()
        with theirs:
            channel.send(ours, {"a": 1})
            assert channel.receive(theirs) == ({"a": 1}, [])
    assert (deep / "s").stat().st_mode & 0o777 == 0o600


def test_listening_replaces_what_a_dead_predecessor_left(tmp_path: Path) -> None:
    channel.listen(str(tmp_path), "s").close()
    with pytest.raises(ConnectionRefusedError):
        channel.connect(str(tmp_path), "s")
    channel.listen(str(tmp_path), "s").close()
    with pytest.raises(FileNotFoundError):
        channel.connect(str(tmp_path), "other")
