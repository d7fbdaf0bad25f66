"""A directory of spec files on a real file system: what a listing says, and when hints come."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.spec.sources.directory import SETTLE, DirectorySource, Listing, ListingState

DOCUMENT = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: %s}\nspec: {shell: 'true'}\n"
DEADLINE = 10.0


def write(path: Path, name: str) -> Path:
    path.write_text(DOCUMENT % name)
    return path


def names(listing: Listing) -> list[str]:
    return [document.name for entry in listing.files for document in entry.parsed.documents]


def settled(source: DirectorySource) -> Listing:
    """The first listing that can be believed about what is gone."""
    deadline = time.monotonic() + DEADLINE
    while not (listing := source.list()).settled:
        assert time.monotonic() < deadline, listing
    return listing


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    path = tmp_path / "specs"
    path.mkdir()
    return path


@pytest.fixture
def source(specs: Path) -> DirectorySource:
    return DirectorySource(specs, lambda: None)


class Hints:
    """Counts hints and remembers when the last came."""

    def __init__(self) -> None:
        self.came = threading.Event()

    def __call__(self) -> None:
        self.came.set()

    def after(self, act: Callable[[], object]) -> float:
        """Seconds from the act to its first hint."""
        self.came.clear()
        began = time.monotonic()
        act()
        assert self.came.wait(DEADLINE)
        return time.monotonic() - began


@pytest.fixture
def hints() -> Hints:
    return Hints()


@pytest.fixture
def watched(specs: Path, hints: Hints) -> Iterator[DirectorySource]:
    source = DirectorySource(specs, hints)
    source.start()
    assert source.watching, source.note
    yield source
    source.stop()
    assert not source.watching


def test_spec_files_are_found_at_any_depth(specs: Path, source: DirectorySource) -> None:
    (specs / "a" / "b").mkdir(parents=True)
    write(specs / "one.yaml", "one")
    write(specs / "a" / "two.yml", "two")
    (specs / "a" / "b" / "three.json").write_text(
        '{"apiVersion":"reconciler/v1","kind":"Container","metadata":{"name":"three"},"spec":{}}'
    )
    listing = source.list()
    assert sorted(names(listing)) == ["one", "three", "two"]
    assert (listing.state, listing.ignored, listing.busy) == (ListingState.OK, (), ())


def test_names_with_a_dot_in_front_are_passed_over_and_others_are_named(specs: Path, source: DirectorySource) -> None:
    for name in (".web.yaml.swp", "web.yaml~", "web.yaml.bak", "README"):
        write(specs / name, "x")
    (specs / ".git").mkdir()
    write(specs / ".git" / "x.yaml", "x")
    listing = source.list()
    assert listing.files == ()
    assert [Path(path).name for path, _ in listing.ignored] == ["README", "web.yaml.bak", "web.yaml~"]


def test_links_to_files_are_read_and_links_to_directories_are_not(
    tmp_path: Path, specs: Path, source: DirectorySource
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (specs / "link.yaml").symlink_to(write(outside / "web.yaml", "web"))
    (specs / "directory").symlink_to(outside)
    (specs / "directory.yaml").symlink_to(outside)
    (specs / "dangling.yaml").symlink_to("nothing")
    (specs / "loop.yaml").symlink_to("loop.yaml")
    listing = source.list()
    assert names(listing) == ["web"]
    assert {Path(path).name: why for path, why in listing.ignored} == {
        "directory": "a symlinked directory",
        "directory.yaml": "a symlinked directory",
        "dangling.yaml": "a dangling link",
        "loop.yaml": "a loop of links",
    }


def test_what_is_no_regular_file_is_ignored_without_being_opened(specs: Path, source: DirectorySource) -> None:
    os.mkfifo(specs / "fifo.yaml")
    (specs / "device.yaml").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(specs / "s.yaml"))
        ignored = {Path(path).name: why for path, why in source.list().ignored}
    assert ignored == {"fifo.yaml": "a FIFO", "device.yaml": "a device", "s.yaml": "a socket"}


def test_a_name_that_is_not_utf8_is_ignored_and_shown_in_ascii(specs: Path, source: DirectorySource) -> None:
    Path(os.fsdecode(os.fsencode(specs) + b"/\xff.yaml")).write_text("x")
    ((path, why),) = source.list().ignored
    assert path.isascii()
    assert why == "its name is not UTF-8"


def test_a_file_that_is_still_open_for_writing_is_not_read(specs: Path, source: DirectorySource) -> None:
    with (specs / "web.yaml").open("w") as writer:
        writer.write(DOCUMENT % "half")
        writer.flush()
        listing = source.list()
        assert (listing.files, listing.busy) == ((), (str(specs / "web.yaml"),))
        assert listing.retry_after
    assert names(source.list()) == ["half"]


def test_a_rewrite_that_has_begun_hides_what_was_read_before(specs: Path, source: DirectorySource) -> None:
    path = write(specs / "web.yaml", "web")
    assert names(source.list()) == ["web"]
    with path.open("w") as writer:
        writer.write("apiVersion")
        writer.flush()
        listing = source.list()
    assert (names(listing), listing.busy) == ([], (str(path),))


def test_where_leases_do_not_work_a_file_must_have_been_left_alone(
    specs: Path, source: DirectorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.spec.sources.reading._lease", lambda descriptor, device: False)
    path = write(specs / "web.yaml", "web")
    assert source.list().busy == (str(path),)
    eventually(lambda: names(source.list()) == ["web"], "the quiet window ends")


def test_a_changed_file_is_read_again_also_within_one_tick_of_the_clock(specs: Path, source: DirectorySource) -> None:
    path = specs / "web.yaml"
    for number in range(10):
        write(path, f"web{number}")
        assert names(source.list()) == [f"web{number}"]


def test_an_unchanged_tree_is_not_read_again(
    specs: Path, source: DirectorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(specs / "web.yaml", "web")
    os.utime(path, (1, 1))
    eventually(lambda: time.time() - path.stat().st_ctime > 0.2, "the file is no longer fresh")
    before = source.list()
    monkeypatch.setattr("reconciler.spec.sources.reading.read", None)
    assert source.list().files == before.files


def test_a_moved_file_says_the_same_at_its_new_path(specs: Path, source: DirectorySource) -> None:
    path = specs / "a.yaml"
    path.write_text("broken: [")
    assert str(source.list().files[0].parsed.errors[0]).startswith(str(path))
    path.rename(specs / "b.yaml")
    assert [str(entry.parsed.errors[0]).split(":")[0] for entry in settled(source).files] == [str(specs / "b.yaml")]


def test_a_file_that_vanished_is_believed_gone_only_after_a_while(specs: Path, source: DirectorySource) -> None:
    path = write(specs / "web.yaml", "web")
    settled(source)
    path.unlink()
    first = source.list()
    assert not first.settled
    assert first.retry_after == pytest.approx(SETTLE)
    assert settled(source).files == ()


def test_a_file_that_is_replaced_never_counts_as_gone(specs: Path, source: DirectorySource) -> None:
    path = write(specs / "web.yaml", "web")
    settled(source)
    path.unlink()
    source.list()
    write(path, "web")
    assert names(settled(source)) == ["web"]


def test_a_missing_directory_is_unknown_and_not_empty(specs: Path, source: DirectorySource) -> None:
    write(specs / "web.yaml", "web")
    assert source.list().state is ListingState.OK
    specs.rename(specs.with_name("elsewhere"))
    listing = source.list()
    assert (listing.state, listing.settled) == (ListingState.UNKNOWN, False)
    assert listing.reason == f"{specs}: No such file or directory"


def test_a_file_in_the_place_of_the_directory_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "specs").write_text("")
    listing = DirectorySource(tmp_path / "specs", lambda: None).list()
    assert (listing.state, listing.reason) == (ListingState.UNKNOWN, f"{tmp_path}/specs: Not a directory")


def test_an_empty_directory_on_another_device_is_a_mount_that_is_missing(tmp_path: Path, specs: Path) -> None:
    link = tmp_path / "link"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as mounted:
        link.symlink_to(mounted)
        write(Path(mounted) / "web.yaml", "web")
        source = DirectorySource(link, lambda: None)
        assert names(source.list()) == ["web"]
        link.unlink()
        link.symlink_to(specs)
        listing = source.list()
        assert listing.state is ListingState.UNKNOWN
        assert listing.reason == f"{link}: it is empty since another file system took its place"
        write(specs / "web.yaml", "web")
        assert source.list().state is ListingState.OK


def test_an_empty_directory_is_empty(source: DirectorySource) -> None:
    assert (settled(source).state, source.list().files) == (ListingState.OK, ())


def test_a_subdirectory_that_cannot_be_seen_makes_the_listing_unknown(
    specs: Path, source: DirectorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    (specs / "sub").mkdir()
    write(specs / "web.yaml", "web")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("sub"):
            raise OSError(5, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = source.list()
    assert (listing.state, listing.reason) == (ListingState.UNKNOWN, f"{specs}/sub: Input/output error")
    assert names(listing) == ["web"]


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(
    specs: Path, source: DirectorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, limit: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("reconciler.spec.sources.reading.read", refuse)
    path = write(specs / "web.yaml", "web")
    assert [str(error) for error in source.list().files[0].parsed.errors] == [
        f"{path}:1:1: cannot be read: Permission denied"
    ]


def test_the_identity_is_the_path_as_given(tmp_path: Path, specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(specs)
    monkeypatch.chdir(specs)
    assert DirectorySource(Path("../link"), lambda: None).identity == str(tmp_path / "link")


def test_a_rename_into_the_directory_is_hinted_at_once(
    tmp_path: Path, specs: Path, watched: DirectorySource, hints: Hints
) -> None:
    new = write(tmp_path / "new.yaml", "new")
    assert hints.after(lambda: new.rename(specs / "new.yaml")) < 0.2
    assert names(watched.list()) == ["new"]


def test_a_rename_out_of_the_directory_holds_nothing_back(
    tmp_path: Path, specs: Path, watched: DirectorySource, hints: Hints
) -> None:
    old, new = write(specs / "old.yaml", "old"), write(tmp_path / "new.yaml", "new")
    assert hints.after(lambda: old.rename(tmp_path / "old.yaml")) < 0.2
    assert hints.after(lambda: new.rename(specs / "new.yaml")) < 0.2


def test_reading_gives_no_hints(specs: Path, watched: DirectorySource, hints: Hints) -> None:
    write(specs / "web.yaml", "web")
    eventually(lambda: names(watched.list()) == ["web"], "the file is read")
    hints.after(lambda: (specs / "x").touch())  # all earlier events have been told by then
    eventually(lambda: not hints.came.wait(0.1) or hints.came.clear() is not None, "earlier hints are over")
    watched.list()
    assert not hints.came.wait(0.3)


def test_files_in_new_subdirectories_are_hinted(specs: Path, watched: DirectorySource, hints: Hints) -> None:
    for number in range(20):
        sub = specs / f"d{number}" / "e"
        sub.mkdir(parents=True)
        hints.after(lambda sub=sub, number=number: write(sub / "x.yaml", f"n{number}"))
    eventually(lambda: len(names(watched.list())) == 20, "all are found")


def test_a_directory_that_is_made_anew_is_watched_again(specs: Path, watched: DirectorySource, hints: Hints) -> None:
    hints.after(specs.rmdir)
    assert watched.list().state is ListingState.UNKNOWN
    specs.mkdir()
    assert watched.list().state is ListingState.OK
    assert watched.watching
    assert hints.after(lambda: write(specs / "web.yaml", "web")) < 0.2


def test_a_directory_that_was_replaced_is_watched_in_place_of_the_old(
    specs: Path, watched: DirectorySource, hints: Hints
) -> None:
    specs.rename(specs.with_name("old"))
    specs.mkdir()
    watched.list()
    assert hints.after(lambda: write(specs / "web.yaml", "web")) < 0.2


def test_a_link_to_the_directory_is_watched_too(tmp_path: Path, specs: Path, hints: Hints) -> None:
    (tmp_path / "link").symlink_to(specs)
    source = DirectorySource(tmp_path / "link", hints)
    source.start()
    assert hints.after(lambda: write(specs / "web.yaml", "web")) < 0.2
    source.stop()


def test_without_inotify_the_directory_is_still_listed(
    specs: Path, hints: Hints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(descriptor: object) -> int:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr("watchdog.observers.inotify_c.InotifyFD._create_inotify_fd", exhausted)
    source = DirectorySource(specs, hints)
    source.start()
    write(specs / "web.yaml", "web")
    assert names(source.list()) == ["web"]
    assert not source.watching
    assert "fs.inotify.max_user_instances" in source.note
    monkeypatch.undo()
    source.list()
    assert source.watching, source.note
    source.stop()


def test_a_source_leaves_no_thread_and_no_descriptor_behind(specs: Path, hints: Hints) -> None:
    threads, descriptors = threading.active_count(), open_descriptors()
    for _ in range(5):
        source = DirectorySource(specs, hints)
        source.start()
        source.list()
        source.stop()
    eventually(lambda: threading.active_count() <= threads, "threads end")
    eventually(lambda: open_descriptors() <= descriptors, "descriptors are closed")


def test_half_a_file_is_never_seen_however_often_it_is_rewritten(specs: Path, source: DirectorySource) -> None:
    path = write(specs / "web.yaml", "web")

    def rewrite() -> None:
        for number in range(200):
            with path.open("w") as writer:
                writer.write("apiVersion: reconciler/v1\nkind: Container\n")
                writer.flush()
                writer.write(f"metadata: {{name: web{number}}}\nspec: {{shell: 'true'}}\n")

    thread = threading.Thread(target=rewrite)
    thread.start()
    while thread.is_alive():
        listing = source.list()
        assert [error for entry in listing.files for error in entry.parsed.errors] == []
        assert len(listing.files) + len(listing.busy) == 1
    assert names(source.list()) == ["web199"]
