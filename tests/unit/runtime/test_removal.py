"""Whatever a container leaves in its sandbox, it can be removed, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.runtime.kernel.removal import remove_below


def test_a_directory_that_its_owner_closed_is_opened_up(tmp_path: Path) -> None:
    closed = tmp_path / "sandbox" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0o000)
    remove_below(tmp_path, ["sandbox"])
    assert list(tmp_path.iterdir()) == []


def test_a_tree_deeper_than_any_recursion_is_removed(tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    fd = os.open(tmp_path / "sandbox", os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_below(tmp_path, ["sandbox"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["a/b/c", "a/b", "a"])
def test_a_link_on_the_way_keeps_everything_as_it_is(tmp_path: Path, where: str) -> None:
    victim = tmp_path / "victim"
    (victim / "b" / "c").mkdir(parents=True)
    (victim / "c").mkdir()
    link = tmp_path / where
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(victim)
    remove_below(tmp_path, ["a", "b", "c"])
    assert (victim / "b" / "c").is_dir() and (victim / "c").is_dir()


def test_links_sockets_and_pipes_are_unlinked(tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "kept").touch()
    (tmp_path / "sandbox" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "sandbox" / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "sandbox" / "pipe")
    remove_below(tmp_path, ["sandbox"])
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_is_not_there_is_removed_already(tmp_path: Path) -> None:
    remove_below(tmp_path / "nowhere", ["a"])
    remove_below(tmp_path, ["nowhere", "a"])
    remove_below(tmp_path, ["nowhere"])
