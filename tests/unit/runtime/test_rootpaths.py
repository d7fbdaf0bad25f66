"""Paths inside a tree that somebody else wrote: nothing leads out of it, and nothing is made outside."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.runtime.kernel import rootpaths


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A root directory, open, beside a directory `outside` that must stay empty."""
    inside, outside = tmp_path / "root", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield fd, inside
    os.close(fd)
    assert list(outside.iterdir()) == []


def real(fd: int) -> Path:
    try:
        return Path(f"/proc/self/fd/{fd}").readlink()
    finally:
        os.close(fd)


def test_missing_directories_are_made_each_in_the_one_before(tree: tuple[int, Path]) -> None:
    root, inside = tree
    assert real(rootpaths.directory(root, "/mnt/mesos/sandbox")) == inside / "mnt/mesos/sandbox"
    assert real(rootpaths.directory(root, "mnt/mesos/other")) == inside / "mnt/mesos/other"


@pytest.mark.parametrize("link", ["/", "/srv", "srv", "../srv", "../../../srv", "./srv/../srv"])
def test_links_stay_inside_wherever_they_point(tree: tuple[int, Path], link: str) -> None:
    root, inside = tree
    (inside / "srv").mkdir()
    (inside / "mnt").symlink_to(link)
    found = real(rootpaths.directory(root, "/mnt/mesos"))
    assert found == (inside / "mesos" if link == "/" else inside / "srv" / "mesos") and found.is_dir()


def test_a_link_that_leads_outside_makes_nothing_there(tree: tuple[int, Path]) -> None:
    root, inside = tree
    (inside / "mnt").symlink_to(inside.parent / "outside")
    with pytest.raises(OSError, match="in the way"):
        rootpaths.directory(root, "/mnt/mesos/sandbox")


@pytest.mark.parametrize("place", ["dev", "dev/shm"])
def test_where_ordinary_directories_are_wanted_any_link_is_refused(tree: tuple[int, Path], place: str) -> None:
    root, inside = tree
    (inside / "elsewhere").mkdir()
    (inside / place).parent.mkdir(exist_ok=True)
    (inside / place).symlink_to(inside / "elsewhere")
    with pytest.raises(OSError, match="symbolic link is in the way") as caught:
        rootpaths.directory(root, "/dev/shm", links=False)
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, "/dev/shm")
    assert list((inside / "elsewhere").iterdir()) == []


def test_a_file_in_the_way_is_said(tree: tuple[int, Path]) -> None:
    root, inside = tree
    (inside / "mnt").write_text("")
    with pytest.raises(OSError, match="something else is in the way"):
        rootpaths.directory(root, "/mnt/mesos")


def test_dots_are_no_part_of_a_path_to_be_made(tree: tuple[int, Path]) -> None:
    with pytest.raises(OSError, match=r"'\.\.'"):
        rootpaths.directory(tree[0], "/mnt/../../outside/x")


@pytest.mark.parametrize("path", ["/proc/self/root", "/proc/self/fd/0/..", "/proc/self/cwd"])
def test_a_magic_link_is_no_way_to_go(path: str) -> None:
    root = os.open("/", os.O_PATH)
    try:
        with pytest.raises(OSError) as caught:
            rootpaths.open_inside(root, path)
        assert caught.value.errno == errno.ELOOP
    finally:
        os.close(root)


def test_nothing_is_mounted_in_proc() -> None:
    root = os.open("/", os.O_PATH)
    try:
        with pytest.raises(OSError, match="nothing may be mounted in /proc"):
            rootpaths.mount_point(root, "/proc/self/attr")
    finally:
        os.close(root)


def test_the_working_directory_is_not_entered_through_an_open_descriptor(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="must not lead through /proc"):
            rootpaths.enter(f"/proc/self/fd/{held}")
    finally:
        os.close(held)


def test_a_fifo_or_device_in_place_of_a_file_is_not_opened(tree: tuple[int, Path]) -> None:
    root, inside = tree
    os.mkfifo(inside / "passwd")
    with pytest.raises(OSError, match="ordinary file"):
        rootpaths.read_file(root, "/passwd", 10)


def test_a_file_is_read_up_to_its_bound(tree: tuple[int, Path]) -> None:
    root, inside = tree
    (inside / "file").write_text("0123456789")
    (inside / "link").symlink_to("/../../file")
    assert rootpaths.read_file(root, "/link", 10) == b"0123456789"
    assert rootpaths.read_file(root, "/missing/file", 10) is None
    with pytest.raises(OSError, match="9 bytes"):
        rootpaths.read_file(root, "/file", 9)
