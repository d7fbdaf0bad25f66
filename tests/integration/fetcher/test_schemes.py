"""Schemes of fsspec, from a real FTP server; and what is said without fsspec, or of a scheme that nobody knows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

from reconciler.errors import Retryable
from reconciler.runtime.fetcher import schemes
from reconciler.spec.model import ContainerSpec
from tests import processes
from tests.integration.fetcher.test_fetching import CONTENT, archive
from tests.integration.runtime.world import World


@pytest.fixture
def ftp(base: Path) -> Iterator[str]:
    """Its uri; it serves the directory `served`."""
    (base / "served").mkdir()
    authorizer = DummyAuthorizer()
    authorizer.add_anonymous(str(base / "served"))
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer})
    server = ThreadedFTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"timeout": 0.01, "handle_exit": False})
    thread.start()
    try:
        yield f"ftp://127.0.0.1:{server.address[1]}"
    finally:
        server.close_all()
        thread.join()


async def test_files_and_trees_of_an_ftp_server(either: World, ftp: str, base: Path) -> None:
    (base / "served" / "data").write_bytes(CONTENT)
    (base / "served" / "app.tgz").write_bytes(archive("bin/app", b"#!/bin/sh\necho app"))
    uris = [{"uri": f"{ftp}/data", "cache": True}, {"uri": f"{ftp}/app.tgz", "destination": "opt"}]
    async with either.agent() as agent:
        said = await agent.run("web", shell="opt/bin/app; wc -c < data", uris=uris)
        assert said == ["app", str(len(CONTENT))]
        await agent.destroy("web")
        with pytest.raises(Retryable, match="missing"):
            await agent.launch("bad", command=["true"], uris=[{"uri": f"{ftp}/missing"}])
    assert processes.fetchers() == []


def _refused(uri: str) -> list[str]:
    spec = {"name": "web", "command": ["true"], "uris": [{"uri": "data"}, {"uri": uri}]}
    return schemes.refusals(ContainerSpec.model_validate(spec))


def test_a_scheme_that_nobody_knows_is_refused_by_name() -> None:
    assert _refused("hdfss://x/y") == ["spec.uris[1].uri: fsspec knows no hdfss://"]
    assert _refused("ftp://x/y") == _refused("https://x/y") == _refused("/x/y") == []


def test_without_fsspec_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemes, "home", lambda: None)
    (why,) = _refused("s3://x/y")
    assert why == (
        "spec.uris[1].uri: s3:// is fetched through fsspec, which is not installed: pip install 'reconciler[fsspec]'"
    )
