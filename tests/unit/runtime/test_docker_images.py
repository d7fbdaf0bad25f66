"""What an engine is given to pull with."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from reconciler.runtime.docker.images import _credentials
from reconciler.runtime.provisioner.manifests import BadImage
from reconciler.runtime.provisioner.registry import Access


def access(tmp_path: Path, known: bytes) -> Access:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {"r.example": {"auth": base64.b64encode(known).decode()}}}))
    return Access(auth=str(file))


def test_the_credentials_of_its_registry_and_of_no_other(tmp_path: Path) -> None:
    known = access(tmp_path, b"puller:a:b")
    assert _credentials(known, "r.example/team/web:1") == {"username": "puller", "password": "a:b"}
    assert _credentials(known, "other.example/web:1") is None
    assert _credentials(known, "No Name") is None, "the engine says so"
    assert _credentials(Access(), "r.example/team/web:1") is None


def test_credentials_that_an_engine_cannot_be_told_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"auth.json: the credentials for r.example are no UTF-8"):
        _credentials(access(tmp_path, b"puller:\xff"), "r.example/web:1")
