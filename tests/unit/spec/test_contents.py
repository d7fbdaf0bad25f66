"""Files that specs refer to: what is told of their content, and when they are read."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.spec.references import ENV_LIMIT, Kind
from reconciler.spec.sources.contents import FollowedSource
from reconciler.spec.sources.directory import DirectorySource
from reconciler.spec.sources.listing import Content, Listing

SPEC = """\
apiVersion: reconciler/v1
kind: Container
metadata: {name: web}
spec:
  shell: "true"
  env: {A: {fromFile: token}, B: {secretFile: token}}
  volumes: [{type: hostPath, source: %s, target: x}]
"""


def look(source: FollowedSource, path: Path, kind: Kind = Kind.ENV) -> Content | None:
    return source.list().contents.get((str(path), kind))


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "web.yaml").write_text(SPEC % tmp_path)
    file = tmp_path / "specs" / "token"
    file.write_text("one")
    os.utime(file, (1, 1))
    return file


def followed(token: Path, key: bytes = b"k" * 32) -> FollowedSource:
    return FollowedSource(DirectorySource(token.parent, lambda: None), key)


def test_a_content_is_told_as_a_keyed_hash(token: Path) -> None:
    source = followed(token)
    first = look(source, token)
    assert first is not None
    assert first == look(source, token) == look(source, token, Kind.SECRET_ENV)
    other = look(followed(token, b"q" * 32), token)
    assert other is not None
    assert other.hash.split(":") != first.hash.split(":")
    assert other.hash.partition(":")[0] != first.hash.partition(":")[0]
    token.write_text("two")
    assert (changed := look(source, token)) is not None
    assert changed.hash != first.hash


def test_a_file_that_a_spec_refers_to_is_no_stranger_in_the_directory(token: Path) -> None:
    other = token.with_name("other")
    other.write_text("")
    assert [path for path, _ in followed(token).list().ignored] == [str(other)]


def test_a_directory_that_is_mounted_is_not_followed(token: Path) -> None:
    assert look(followed(token), token.parent.parent, Kind.MOUNTED) is None


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (Path.unlink, "No such file"),
        (lambda path: path.write_bytes(b"a\0b"), "a zero byte"),
        (lambda path: path.write_bytes(b"a" * (ENV_LIMIT + 1)), f"larger than {ENV_LIMIT} bytes"),
        (lambda path: (path.unlink(), path.mkdir()), "it is a directory, not a file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "it is a FIFO, not a file"),
    ],
)
def test_what_cannot_be_told_is_said_and_has_no_hash(token: Path, spoil: object, why: str) -> None:
    source = followed(token)
    look(source, token)
    spoil(token)  # type: ignore[operator]
    found = look(source, token)
    assert found is not None
    assert why in found.error
    assert not found.hash


def test_a_file_that_is_being_written_is_as_it_was(token: Path) -> None:
    source = followed(token)
    before = look(source, token)
    with token.open("a") as file:
        file.write("more")
        file.flush()
        assert look(source, token) == before
        fresh = followed(token)
        assert (found := look(fresh, token)) is not None
        assert found.writing
        assert fresh.list().retry_after is not None
    assert look(source, token) != before


def test_a_relative_path_without_a_directory_to_begin_at_is_told(token: Path) -> None:
    """As in a repository, of which nothing is checked out; what lies in our own working directory is not meant."""
    listing = DirectorySource(token.parent, lambda: None).list()
    entries = tuple(replace(entry, path="web.yaml") for entry in listing.files)
    contents = FollowedSource(Given(replace(listing, files=entries)), b"k" * 32).list().contents
    assert "give an absolute one" in contents["token", Kind.ENV].error
    assert "give an absolute one" in contents["token", Kind.SECRET_ENV].error


class Given:
    """A source that says what it was given."""

    identity, note = "given", ""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def refresh(self) -> str:
        return ""

    def list(self) -> Listing:
        return self.listing
