"""Layers, hostile ones too, become directories that overlayfs takes, and nothing outside of them is touched."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.runtime.compression import zstd
from reconciler.runtime.provisioner import layers, unpacking
from reconciler.runtime.provisioner.archives import Layer
from reconciler.runtime.provisioner.manifests import BadImage, Blob
from tests import images
from tests.images import device, directory, file, hard, is_whiteout, link, sha256

pytestmark = pytest.mark.root

MARK = "untouched"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that a hostile archive aims at."""
    made = tmp_path / "outside"
    made.mkdir()
    (made / "mark").write_text(MARK)
    return made


def unpacked(tmp_path: Path, data: bytes, layer: Layer | None = None, check: Callable[[], None] = lambda: None) -> Path:
    place = tmp_path / "layer"
    place.mkdir()
    unpacking.unpack(io.BytesIO(data), layer or Layer(sha256(data), None, ""), str(place), check)
    return place


def test_what_is_in_it_is_kept_as_it_is(tmp_path: Path) -> None:
    tool = file("usr/bin/tool", b"\x7f" * 70_000, 0o4755, uid=7, gid=8, pax_headers={"SCHILY.xattr.user.x": "yes"})
    data = images.layer(directory("usr", 0o750, uid=3), tool, hard("again", "usr/bin/tool"), link("to", "/nowhere"))
    place = unpacked(tmp_path, data)
    found = (place / "usr/bin/tool").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_nlink) == (7, 8, 0o4755, 2)
    assert os.getxattr(place / "again", "user.x") == b"yes" and (place / "again").samefile(place / "usr/bin/tool")
    assert ((place / "usr").stat().st_uid, stat.S_IMODE((place / "usr").stat().st_mode)) == (3, 0o750)
    assert (place / "usr").stat().st_mtime == images.TIME == found.st_mtime
    assert str((place / "to").readlink()) == "/nowhere"


def test_a_sparse_file_stays_one(tmp_path: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as hole:
        hole.seek(8 << 20)
        hole.write(b"end")
    made = tmp_path / "sparse.tar"
    os.spawnlp(os.P_WAIT, "tar", "tar", "-C", str(tmp_path), "--sparse", "-cf", str(made), "sparse")
    found = (unpacked(tmp_path, made.read_bytes()) / "sparse").stat()
    assert found.st_size == (8 << 20) + 3 and found.st_blocks * 512 < 1 << 20


HOSTILE: dict[str, Callable[[Path], list[images.Entry]]] = {
    "absolute name": lambda outside: [file(f"{outside}/new", "x")],
    "through a link": lambda outside: [link("way", str(outside)), file("way/new", "x"), file("way/mark", "x")],
    "through a long way of links": lambda outside: [
        link("a", "../" * 40 + "b"),
        link("b", str(outside)),
        file("a/new", "x"),
        directory("a/more", 0o777),
    ],
    "a link in place of a directory": lambda outside: [
        directory("way"),
        link("way", str(outside)),
        directory("way", 0o777, uid=5),
        file("way/mark", "x", 0o777),
    ],
    "a file through a link of its own name": lambda outside: [link("f", f"{outside}/mark"), file("f", "x", uid=9)],
    "whiteouts through a link": lambda outside: [
        link("way", str(outside)),
        file("way/.wh.mark"),
        file("way/.wh..wh..opq"),
    ],
    "device nodes": lambda outside: [device("dev/zero"), device("zero")],
    "our own attributes": lambda outside: [
        file("f", "x", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.security.ima": "x"})
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_leads_out_of_it(name: str, tmp_path: Path, outside: Path) -> None:
    before = (outside.stat(), (outside / "mark").stat())
    place = unpacked(tmp_path, images.layer(directory(str(outside)), *HOSTILE[name](outside)))
    assert (outside.stat(), (outside / "mark").stat()) == before  # first: a look changes the time of the last one
    assert [path.name for path in outside.iterdir()] == ["mark"] and (outside / "mark").read_text() == MARK
    everything = [place, *place.rglob("*")]
    assert not any(path.is_block_device() or (path.is_char_device() and not is_whiteout(path)) for path in everything)
    seen = {key for path in everything for key in os.listxattr(path, follow_symlinks=False)}
    assert seen <= {"user.x", unpacking.OPAQUE}


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([file("a/../../x", "x")], "leads out"),
        ([file("..", "x")], "leads out"),
        ([hard("x", "../../etc/passwd")], "leads out"),
        ([hard("x", "/etc/passwd")], "hard link"),
        ([link("way", "/etc"), hard("x", "way/passwd")], "hard link"),
        ([file("a/.wh...", "")], "hides"),
        ([file("a/.wh.", "")], "hides"),
        ([file("x" * 5000, "")], "longer than"),
        ([file("x", "", pax_headers={"comment": "x" * (9 << 20)})], "headers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_meant_is_refused(entries: list[images.Entry], why: str, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=why):
        unpacked(tmp_path, images.layer(*entries))


STRANGE: dict[str, tuple[list[images.Entry], bytes]] = {
    "a new line": ([file("a\nb", "x")], b"a\nb"),
    "no UTF-8": ([file("a\udcffb", "x")], b"a\xffb"),
    "a control sequence": ([file("\x1b[2J", "x")], b"\x1b[2J"),
    "a hard link to a link is of the link": ([link("l", "/etc/passwd"), hard("h", "l")], b"h"),
    "dots that are none": ([file("...", "x")], b"..."),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_name_is_bytes(name: str, tmp_path: Path) -> None:
    entries, expected = STRANGE[name]
    assert expected in os.listdir(os.fsencode(unpacked(tmp_path, images.layer(*entries))))  # noqa: PTH208 - of bytes
    assert not (tmp_path / "layer/h").exists() or (tmp_path / "layer/h").is_symlink()


@pytest.mark.parametrize("size", ["999999", "-512", "99999999999999999999"])
def test_a_size_that_is_not_the_contents_is_refused(size: str, tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        unpacked(tmp_path, images.layer(file("x", b"x" * 700, pax_headers={"size": size}), file("y", "y")))


def test_a_layer_with_another_content_than_it_says_is_refused(tmp_path: Path) -> None:
    data = images.layer(file("x", "x"))
    packed = gzip.compress(data)
    wrong = [
        (data, Layer(f"sha256:{'0' * 64}", None, "")),
        (packed, Layer(sha256(data), Blob(f"sha256:{'0' * 64}", len(packed)), "")),
        (packed, Layer(sha256(data), Blob(sha256(packed), len(packed) + 1), "")),
        (packed[:-20], Layer(sha256(data), None, "")),
        (b"\x28\xb5\x2f\xfd" + packed, Layer(sha256(data), None, "")),
        (b"no archive" * 100, Layer(sha256(b"no archive" * 100), None, "")),
    ]
    for number, (content, layer) in enumerate(wrong):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(BadImage):
            unpacked(tmp_path / str(number), content, layer)
    (tmp_path / "right").mkdir()
    unpacked(tmp_path / "right", packed, Layer(sha256(data), Blob(sha256(packed), len(packed)), ""))


def test_bounds_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_MOST", 3)
    with pytest.raises(BadImage, match="more than 3 entries"):
        unpacked(tmp_path, images.layer(*(directory(str(number)) for number in range(4))))
    monkeypatch.setattr(unpacking, "_LARGEST", 1 << 20)
    (tmp_path / "bomb").mkdir()
    data = images.layer(file("zeros", bytes(2 << 20)))
    for packed in (gzip.compress(data), zstd.compress(data)):
        with pytest.raises(BadImage, match="larger than"):
            unpacked(tmp_path / "bomb", packed, Layer(sha256(data), None, ""))
        (tmp_path / "bomb" / "layer").rename(tmp_path / sha256(packed))


def test_a_tree_deeper_than_any_recursion_is_made_and_replaced(tmp_path: Path) -> None:
    way = [directory("d/" * depth) for depth in range(1, 1500)]
    place = unpacked(tmp_path, images.layer(*way, file("d", "a file now")))
    assert [(each.name, each.read_text()) for each in place.iterdir()] == [("d", "a file now")]


def test_what_cannot_be_written_is_named_with_its_layer(tmp_path: Path) -> None:
    data = images.layer(file(f"etc/{'long' * 100}"))
    with pytest.raises(OSError, match=f"^etc/(long)+ of layer {sha256(data)} cannot be written: File name too long$"):
        unpacked(tmp_path, data)


def test_it_is_given_up_at_once_when_nobody_wants_it(tmp_path: Path) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        unpacked(tmp_path, images.layer(file("x", bytes(1 << 20))), check=stop)


LOWER = (directory("etc"), file("etc/old", "old"), file("etc/passwd", "lower"), directory("gone"), file("gone/x", "x"))
UPPER = (
    file("etc/.wh.old"),
    file("etc/passwd", "upper"),
    file("gone/.wh..wh..opq"),
    file("gone/y", "y"),
    file("anew/.wh.nothing"),
)


def layered(tmp_path: Path) -> list[Path]:
    """From the top down."""
    found = []
    for name, entries in (("upper", UPPER), ("lower", LOWER)):
        (tmp_path / name).mkdir()
        found.append(unpacked(tmp_path / name, images.layer(*entries)))
    return found


def test_whiteouts_hide_what_lies_below(tmp_path: Path) -> None:
    upper, lower = layered(tmp_path)
    assert is_whiteout(upper / "etc/old") and layers.is_opaque(upper / "gone") and not layers.is_opaque(lower / "gone")
    for path, content in (("/etc/passwd", b"upper"), ("/etc/old", b""), ("/gone/x", b""), ("/gone/y", b"y")):
        assert layers.read([upper, lower], path, 100) == content
    layers.copied([upper, lower], tmp_path / "root")
    found = sorted(str(path.relative_to(tmp_path / "root")) for path in (tmp_path / "root").rglob("*"))
    assert found == ["anew", "etc", "etc/passwd", "gone", "gone/y"]
    assert (tmp_path / "root/etc/passwd").read_text() == "upper"


def test_links_between_layers_are_followed_inside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    below = unpacked(
        tmp_path, images.layer(file("usr/etc/passwd", "x"), link("etc", "/usr/lib/../etc"), directory("usr/lib"))
    )
    above = unpacked(tmp_path / "a", images.layer(link("usr/etc/group", "../../../../etc/passwd")))
    assert layers.read([above, below], "/etc/group", 10) == b"x"
    assert layers.read([above, below], "/etc/nothing/more", 10) == b""


def test_what_hides_and_comes_again_in_one_layer_shows_nothing_of_before(tmp_path: Path) -> None:
    place = unpacked(
        tmp_path,
        images.layer(file(".wh.a"), directory("a"), directory("b"), file(".wh.b"), file(".wh.c"), file("c", "c")),
    )
    assert layers.is_opaque(place / "a") and layers.is_opaque(place / "b") and (place / "c").read_text() == "c"


def test_a_tar_of_a_real_tar_program_is_taken(tmp_path: Path) -> None:
    (tmp_path / "src/é").mkdir(parents=True)
    (tmp_path / "src/é" / ("n" * 200)).write_text("long")
    for form in ("gnu", "pax", "ustar"):
        made = tmp_path / f"{form}.tar"
        os.spawnlp(os.P_WAIT, "tar", "tar", "-C", str(tmp_path / "src"), f"--format={form}", "-cf", str(made), ".")
        (tmp_path / form).mkdir()
        if form == "ustar":  # cannot name it
            continue
        assert (unpacked(tmp_path / form, made.read_bytes()) / "é" / ("n" * 200)).read_text() == "long"
    assert tarfile.is_tarfile(tmp_path / "gnu.tar")
