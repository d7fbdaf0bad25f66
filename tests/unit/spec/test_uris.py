"""What uris mean, and which of them are refused before anything is fetched."""

from __future__ import annotations

import pytest

from reconciler.spec.uris import archive, base_name, local_path, place, violation


@pytest.mark.parametrize(
    ("uri", "name", "kind"),
    [
        ("https://x.org/a/b.tgz?token=1#frag", "b.tgz", "tar"),
        ("http://x/%61%20b.ZIP", "a b.ZIP", "zip"),
        ("http://x/a%2fb", "b", None),
        ("http://x/..", "", None),
        ("http://x/", "", None),
        ("file:///srv/%C3%A4.tar.xz", "ä.tar.xz", "tar"),
        ("../up/app?.bin", "app?.bin", None),
        ("notes.gz", "notes.gz", "gzip"),
        (".gz", ".gz", None),
        ("s3://bucket/way/log.XZ?version=2", "log.XZ", "xz"),
    ],
)
def test_name_and_kind(uri: str, name: str, kind: str | None) -> None:
    assert (base_name(uri), archive(uri)) == (name, kind)


@pytest.mark.parametrize(("uri", "where"), [("a.tgz", ""), ("a.ZIP", ""), ("a.txt", "a.txt"), ("log.GZ", "log")])
def test_where_it_belongs(uri: str, where: str) -> None:
    assert place(uri, archive(uri)) == where


def test_a_file_uri_is_a_path() -> None:
    assert [local_path(each) for each in ("file:///a%20b", "a%20b", "/x?y")] == ["/a b", "a%20b", "/x?y"]


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("-x://x/y", "scheme"),
        ("ftp://me:pw@x/y", "password"),
        ("file://other/y", "file:///"),
        ("http:///y", "no host"),
        ("https://me:pw@x/y", "password"),
        ("http://x:port/y", "no uri"),
        ("http://x", "destination"),
    ],
)
def test_refused(uri: str, why: str) -> None:
    assert why in violation(uri, named=False)


def test_accepted() -> None:
    assert violation("http://x/", named=True) == ""
    assert violation("sftp://me@x/y", named=False) == ""
    assert violation("c:/x", named=False) == "", "a path like any other"
