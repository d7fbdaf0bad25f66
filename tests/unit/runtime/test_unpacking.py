"""Archives and sandboxes that mean harm: nothing outside the directory is written, whatever they say."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.runtime.fetcher import placing
from reconciler.runtime.fetcher.request import FetchError
from reconciler.runtime.fetcher.unpacking import unpack

Member = tuple[str, bytes, dict[str, object]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("untouched")
    (tmp_path / "sandbox").mkdir()
    return tmp_path / "sandbox"


@pytest.fixture
def sandbox(place: Path) -> Iterator[int]:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def tar(*members: Member, mode: str = "w") -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content, more in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in more.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return file


def zipped(*members: tuple[str, bytes, int]) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return file


def symlink(name: str, to: str) -> Member:
    return name, b"", {"type": tarfile.SYMTYPE, "linkname": to}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_of_each_kind(sandbox: int, place: Path, mode: str) -> None:
    held: list[int] = []
    directory: Member = ("d", b"", {"type": tarfile.DIRTYPE, "mode": 0o555})
    hard: Member = ("d/same", b"", {"type": tarfile.LNKTYPE, "linkname": "d/run"})
    file = tar(directory, ("./d/run", b"#!", {"mode": 0o4755}), symlink("d/l", "../d/run"), hard, mode=mode)
    unpack("tar", file, sandbox, "into/it", held.append)
    made = place / "into" / "it" / "d"
    assert (made / "l").read_bytes() == b"#!" and held == [512, 512, 2, 512, 512], "headers count"
    assert stat.S_IMODE((made / "run").stat().st_mode) == 0o755, "no set-user-id"
    assert (made / "same").stat().st_ino == (made / "run").stat().st_ino


def test_a_zip(sandbox: int, place: Path) -> None:
    file = zipped(
        ("a/", b"", 0), ("a/run", b"x", 0o755), ("a/l", b"run", stat.S_IFLNK | 0o777), ("b/plain", b"y", 0o4640)
    )
    unpack("zip", file, sandbox, "", lambda amount: None)
    assert os.access(place / "a" / "run", os.X_OK) and (place / "a" / "l").read_bytes() == b"x"
    assert stat.S_IMODE((place / "b" / "plain").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", b"!", {})],
        [("/tmp/outside", b"!", {})],
        [("a/../../outside", b"!", {})],
        [symlink("l", "../outside"), ("l", b"!", {})],
        [symlink("l", ".."), ("l/outside", b"!", {})],
        [symlink("l", "/etc/passwd")],
        [("d", b"", {"type": tarfile.DIRTYPE}), symlink("d/l", "../../x")],
        [("h", b"", {"type": tarfile.LNKTYPE, "linkname": "../outside"})],
        [("n", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})],
        [("f", b"", {"type": tarfile.FIFOTYPE})],
        [("", b"!", {})],
    ],
)
def test_a_hostile_tar_is_refused(sandbox: int, place: Path, members: list[Member]) -> None:
    with pytest.raises((FetchError, OSError)):
        unpack("tar", tar(*members), sandbox, "", lambda amount: None)
    assert (place.parent / "outside").read_text() == "untouched"
    assert sorted(each.name for each in place.parent.iterdir()) == ["outside", "sandbox"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside"])
def test_a_hostile_zip_is_refused(sandbox: int, place: Path, name: str) -> None:
    with pytest.raises(FetchError):
        unpack("zip", zipped((name, b"!", 0)), sandbox, "", lambda amount: None)
    link = zipped(("l", b"../outside", stat.S_IFLNK | 0o777), ("l", b"!", 0))
    with pytest.raises(FetchError):
        unpack("zip", link, sandbox, "", lambda amount: None)
    assert (place.parent / "outside").read_text() == "untouched"


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_what_is_no_archive_is_said_to_be_none(sandbox: int, kind: str) -> None:
    for content in (b"no archive", tar(("a", b"x" * 4000, {}), mode="w:gz").getvalue()[:40], b""):
        with pytest.raises(FetchError, match="cannot be unpacked"):
            unpack(kind, io.BytesIO(content), sandbox, "", lambda amount: None)


def test_links_that_the_container_planted_lead_nowhere(sandbox: int, place: Path) -> None:
    """On the way, in the place of the file, and in the place of what it is written to first."""
    (place / "way").symlink_to("..")
    (place / "outside").symlink_to("../outside")
    (place / ".app.fetched").symlink_to("../outside")
    with pytest.raises(OSError, match="symbolic link"), placing.replacing(sandbox, "way/outside", 0o644):
        pass
    for name in ("outside", "app"):
        with placing.replacing(sandbox, name, 0o644) as file:
            file.write(b"ours")
    assert (place / "outside").read_bytes() == (place / "app").read_bytes() == b"ours"
    assert not (place / "outside").is_symlink() and (place.parent / "outside").read_text() == "untouched"


def test_what_was_there_stays_until_the_new_is_complete(sandbox: int, place: Path) -> None:
    (place / "app").write_text("old")
    with pytest.raises(FetchError), placing.replacing(sandbox, "app", 0o755) as file:
        file.write(b"half")
        raise FetchError
    assert [each.name for each in place.iterdir()] == ["app"] and (place / "app").read_text() == "old"
