"""A registry that stalls, lies about lengths, never ends or leads astray: one clear error, in bounded memory."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from reconciler.runtime.provisioner import registry as client
from reconciler.runtime.provisioner.manifests import BadImage
from reconciler.runtime.provisioner.references import Remote
from tests import images, registry
from tests.registry import Answering, Fault, Stub

MIB = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Stub]:
    images.oci(tmp_path / "box", [images.layer(images.file("big", os.urandom(2 * MIB)))], Cmd=["true"])
    with registry.stub(tmp_path / "box") as server:
        yield server


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_TIMEOUT", (1.0, 0.3))
    monkeypatch.setattr(client.Registry, "_pause", lambda *_: None)


def pulled(server: Stub, place: Path, check: Callable[[], None] = lambda: None) -> None:
    place.mkdir()
    remote = Remote(f"127.0.0.1:{server.port}", "box", "latest", None)
    with client.opened(remote, client.Access(), place, lambda what: None, check) as source:
        for layer in source.describe().layers:
            with source.open(layer):
                pass


def to(place: str, body: Iterable[bytes] = ()) -> Fault:
    """A redirect. body: what comes with it."""
    return lambda answer, _: endless(answer, body, 302, ("Location", place.format(answer.headers["Host"], answer.path)))


def endless(answer: Answering, pieces: Iterable[bytes], status: int, *headers: tuple[str, str]) -> None:
    answer.send_response(status)
    for name, value in headers:
        answer.send_header(name, value)
    answer.end_headers()
    answer.close_connection = True
    with contextlib.suppress(OSError):
        for piece in pieces:
            answer.wfile.write(piece)


def stalls(answer: Answering, body: bytes) -> None:
    endless(answer, slowly(body[:MIB]), 200, ("Content-Length", str(len(body))))


def slowly(data: bytes) -> Iterator[bytes]:
    yield data
    time.sleep(1)


def bomb(answer: Answering, body: bytes) -> None:
    answer.send(200, BOMB, {"Content-Encoding": "gzip"})


ZEROS = bytes(MIB)
BOMB = gzip.compress(bytes(64 * MIB), 1)
HOSTILE: dict[str, tuple[str, Fault, str]] = {
    "a redirect to a file": ("manifests", to("file:///etc/passwd"), "file:///etc/passwd.*not followed"),
    "a redirect to no address": ("manifests", to("http://[x"), "no address"),
    "redirects in a circle": ("manifests", to("http://{}{}"), "redirects more than 5 times"),
    "a redirect that never ends": ("manifests", to("http://{}{}", itertools.repeat(ZEROS)), "redirects more than 5"),
    "a manifest that never ends": (
        "manifests",
        lambda answer, _: endless(answer, itertools.repeat(ZEROS), 200),
        "larger than 4194304 bytes",
    ),
    "a manifest that unfolds": ("manifests", bomb, "manifest"),
    "a layer that never ends": (
        "sha256",
        lambda answer, body: body if len(body) < MIB else endless(answer, itertools.repeat(ZEROS), 200),
        "larger than its manifest says",
    ),
    "a layer that stalls": (
        "sha256",
        lambda answer, body: body if len(body) < MIB else stalls(answer, body),
        "timed out",
    ),
    "a layer that is short": (
        "sha256",
        lambda answer, body: body if len(body) < MIB else answer.send(200, body[:MIB]),
        "ended after 1048576 of",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_contained(name: str, server: Stub, tmp_path: Path) -> None:
    where, fault, why = HOSTILE[name]
    server.faults[where] = fault
    tracemalloc.start()
    try:
        with pytest.raises(BadImage, match=why):
            pulled(server, tmp_path / "work")
        assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    finally:
        tracemalloc.stop()
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("realm", "why"),
    [
        ("file:///etc/passwd", "not followed"),
        ("http://other.example/token", "plain HTTP"),
        ("http://127.0.0.1:{}/v2/box/manifests/x", "token service answers 401"),
    ],
)
def test_a_token_service_that_is_none_is_not_asked(realm: str, why: str, server: Stub, tmp_path: Path) -> None:
    server.realm = realm.format(server.port)
    with pytest.raises(BadImage, match=why):
        pulled(server, tmp_path / "work")


def test_sizes_that_no_disk_has_are_refused_before_anything_is_asked_for(server: Stub, tmp_path: Path) -> None:
    def swollen(answer: Answering, body: bytes) -> bytes:
        found = json.loads(body)
        found["layers"][0]["size"] = 1 << 62
        return json.dumps(found).encode()

    server.faults["manifests"] = swollen
    with pytest.raises(BadImage, match="more than 64 GiB"):
        pulled(server, tmp_path / "work")
    assert not any(path.endswith(server.layers()[0]) for _, path, _, _ in server.asked)


def test_one_that_sends_a_byte_now_and_then_holds_nobody_up(
    server: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class GivenUp(Exception):
        pass

    def check() -> None:
        if trickling:
            raise GivenUp

    def trickle(body: bytes) -> Iterator[bytes]:
        for byte in body[:100]:
            yield bytes([byte])
            trickling.append(True)
            time.sleep(0.1)

    trickling: list[bool] = []
    server.faults["manifests"] = lambda answer, body: endless(answer, trickle(body), 200)
    begun = time.monotonic()
    with pytest.raises(GivenUp):
        pulled(server, tmp_path / "work", check)
    assert time.monotonic() - begun < 5


def test_why_it_refuses_is_told_though_it_comes_in_pieces(server: Stub, tmp_path: Path) -> None:
    said = json.dumps({"errors": [{"code": "DENIED", "message": "not for you"}]}).encode()

    def refused(answer: Answering, body: bytes) -> None:
        endless(answer, halves(said), 403, ("Content-Length", str(len(said))))

    def halves(data: bytes) -> Iterator[bytes]:
        yield data[:20]
        time.sleep(0.1)
        yield data[20:]

    server.faults["manifests"] = refused
    with pytest.raises(BadImage, match=r"403 .*DENIED not for you"):
        pulled(server, tmp_path / "work")
