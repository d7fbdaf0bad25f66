"""A container's root from the layers that it shares with others, by one of the backends.

    overlay   the layers, read-only and shared by all, under a directory of the container's own: no file is copied.
              Mounted by the container's first process, in its own mount namespace: nothing on the host.
    copy      the layers one over the other in a directory of the container's own, where there can be no overlay
    bind      the layers one over the other in one directory for all, read-only: no overlay, and a single copy. Unlike
              Mesos's backend of that name it takes images of several layers, and ones without our mount points.

Layers are directories of nobody's but ours, from the top down here: `read` finds a file in them without a mount.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.runtime.kernel import mounts, removal, rootpaths
from reconciler.runtime.provisioner import mapped_overlay
from reconciler.runtime.provisioner.store import is_whiteout
from reconciler.runtime.provisioner.unpacking import OPAQUE

_LINKS = 40  # as the kernel follows, path_resolution(7)


@dataclass(frozen=True, slots=True)
class Overlay:
    """lowers: from the top down. upper, work: of the container's own, on one file system; "": it is only read."""

    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""

    def step(self, role: str, flags: Sequence[str]) -> dict[str, object]:
        """That has a container's first process mount it, and keep it by that name."""
        parts = {"lowers": list(self.lowers), "upper": self.upper, "work": self.work}
        return {"op": "overlay", "as": role, **parts, "flags": list(flags)}


@dataclass(frozen=True, slots=True)
class Bound:
    """A directory that others have as well, shown read-only."""

    tree: str

    @property
    def lowers(self) -> tuple[str, ...]:
        return (self.tree,)

    def step(self, role: str, flags: Sequence[str]) -> dict[str, object]:
        step = {"op": "take", "source": self.tree, "as": role, "resolved": True, "idmap": True}
        return step | {"flags": [*(flag for flag in flags if flag != "ro"), "ro"], "propagation": "private"}


def overlaid(lowers: Sequence[Path], place: Path) -> Overlay:
    """With a new, empty upper directory, which looks like the topmost layer's root."""
    upper, work = place / "upper", place / "work"
    found = lowers[0].stat()
    for directory in (upper, work):
        directory.mkdir()
    os.chown(upper, found.st_uid, found.st_gid)
    upper.chmod(stat.S_IMODE(found.st_mode))
    return Overlay(tuple(map(str, lowers)), str(upper), str(work))


def shown(lowers: Sequence[Path], place: Path) -> Overlay:
    """Without one. An empty directory lies below all, since of a single one the kernel makes no overlay."""
    empty = place / "empty"
    empty.mkdir()
    return Overlay((*map(str, lowers), str(empty)))


def why_no_overlay(base: Path, count: int) -> str:
    """Why none of so many layers can be mounted with its directories there; "" when it can. Before Linux 6.5 some dozen
    are too many."""
    with _trial(base, count) as tried:
        try:
            tree = mounts.overlay(tried.lowers, tried.upper, tried.work, 0)
        except OSError as error:
            return str(error.strerror)
        os.close(tree)
    return ""


def why_no_mapped_overlay(base: Path, count: int) -> str:
    """The same of one in which files keep their owners in a user namespace: before Linux 5.19 there is none."""
    with _trial(base, count) as tried:
        return mapped_overlay.why_none(tried.lowers, tried.upper, tried.work)


@contextlib.contextmanager
def _trial(base: Path, count: int) -> Iterator[Overlay]:
    """Of empty directories."""
    with tempfile.TemporaryDirectory(dir=base) as place:
        found = Overlay(tuple(f"{place}/{number}" for number in range(count)), f"{place}/upper", f"{place}/work")
        for directory in (*found.lowers, found.upper, found.work):
            Path(directory).mkdir()
        yield found


def copied(lowers: Sequence[Path], root: Path) -> None:
    """All in one new directory. Sockets are no part of an image; hard links stay such within a layer."""
    root.mkdir()
    for lower in reversed(lowers):
        _lay(lower, root)


def united(lowers: Sequence[Path], root: Path, directories: Sequence[str], files: Sequence[str]) -> None:
    """All in one new directory that is only read from then on: with what will be mounted on."""
    copied(lowers, root)
    with rootpaths.opened(str(root)) as opened:
        for path in directories:
            os.close(rootpaths.directory(opened, path))
        for path in files:
            os.close(rootpaths.entry(opened, path, make=True))


def spread(lowers: Sequence[Path], path: str, place: Path) -> None:
    """A new directory with what the image has at that one; empty when it has none. Raises NotADirectoryError."""
    found = reached(lowers, path)
    if found and not found[0].is_dir():
        raise NotADirectoryError(20, "is no directory", path)
    copied(found, place)


def _lay(lower: Path, root: Path) -> None:
    linked: dict[int, Path] = {}
    shutil.copystat(lower, root)
    _own(lower, root)
    for directory, below, files in os.walk(lower):
        here = root / os.path.relpath(directory, lower)
        for name in below + files:
            source, target = Path(directory, name), here / name
            _put(source, target, linked)


def _put(source: Path, target: Path, linked: dict[int, Path]) -> None:
    found = source.lstat()
    is_directory = stat.S_ISDIR(found.st_mode)
    if not is_directory or not _is_directory(target) or is_opaque(source):
        removal.remove(target)
    if is_whiteout(found):
        return
    if is_directory:
        target.mkdir(exist_ok=True)
    elif found.st_nlink > 1 and found.st_ino in linked:
        os.link(linked[found.st_ino], target, follow_symlinks=False)
        return
    elif stat.S_ISLNK(found.st_mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISFIFO(found.st_mode):
        os.mkfifo(target)
    else:
        _copy(source, target)
    linked[found.st_ino] = target
    _own(source, target)
    shutil.copystat(source, target, follow_symlinks=False)
    with contextlib.suppress(OSError):
        os.removexattr(target, OPAQUE, follow_symlinks=False)


def _copy(source: Path, target: Path) -> None:
    """A file, with its holes."""
    with source.open("rb") as here, target.open("xb") as there:
        for begin, end in _extents(here.fileno()):
            there.seek(begin)
            while begin < end and (done := os.sendfile(there.fileno(), here.fileno(), begin, end - begin)):
                begin += done
        there.truncate(os.fstat(here.fileno()).st_size)


def _extents(fd: int) -> Iterator[tuple[int, int]]:
    """Where there is data: from, to. lseek(2), SEEK_DATA."""
    end = 0
    while True:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # but a hole is left, or nothing
                return
            raise
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, end


def _own(source: Path, target: Path) -> None:
    found = source.lstat()
    os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def is_opaque(directory: Path) -> bool:
    try:
        return os.getxattr(directory, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def read(lowers: Sequence[Path], path: str, limit: int) -> bytes:
    """An ordinary file as the container will see it; empty when there is none."""
    found = reached(lowers, path)
    return _content(found[0], path, limit) if found and found[0].is_file() else b""


def reached(lowers: Sequence[Path], path: str) -> list[Path]:
    """What the container will see there, links followed inside: nothing, one thing, or the directories that are merged,
    from the top down."""
    todo, links = deque(path.split("/")), 0
    ways: list[list[Path]] = [list(lowers)]  # each directory on the way: where it is, from the top layer down
    while todo:
        part = todo.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            ways = ways[:-1] or ways
            continue
        found = _seen(ways[-1], part)
        if not found:
            return []
        if found[0].is_symlink():
            links += 1
            if links > _LINKS:
                return []
            target = str(found[0].readlink())
            if target.startswith("/"):
                ways = ways[:1]
            todo.extendleft(reversed(target.split("/")))
        elif found[0].is_dir():
            ways.append(found)
        else:
            return [] if any(part not in ("", ".") for part in todo) else found
    return ways[-1]


def _seen(directories: Sequence[Path], name: str) -> list[Path]:
    """What is there by that name: one thing, or the directories that are merged."""
    found: list[Path] = []
    for directory in directories:
        path = directory / name
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if is_whiteout(status):
            break
        if not stat.S_ISDIR(status.st_mode):
            return found or [path]
        found.append(path)
        if is_opaque(path):
            break
    return found


def _content(path: Path, name: str, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(27, f"must not be larger than {limit} bytes", name)
    return data
