"""Which entries of a commit are spec files: by the rules of a directory, but links may lead nowhere outside. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.spec.sources.names import SUFFIXES, no_suffix, shown

_LINK, _SUBMODULE = "120000", "160000"
_MAX_LINK = 4096
_MAX_LINKS = 8


@dataclass(frozen=True, slots=True)
class Blob:
    """An entry of a commit's tree. mode: as git writes it, six octal digits; size: bytes, 0 for a submodule."""

    mode: str
    id: str
    size: int

    @property
    def link(self) -> bool:
        """Whose content is the path it leads to."""
        return self.mode == _LINK and self.size <= _MAX_LINK


@dataclass(slots=True)
class Selection:
    """files: path in the repository → what to read; ignored: (path, why)."""

    files: dict[str, Blob] = field(default_factory=dict)
    ignored: list[tuple[str, str]] = field(default_factory=list)


def links_in(tree: Mapping[str, Blob]) -> list[str]:
    """Object ids of the links' targets, which `select` needs."""
    return sorted({blob.id for blob in tree.values() if blob.link})


def select(tree: Mapping[str, Blob], targets: Mapping[str, bytes], path: str) -> Selection:
    """tree: of the whole repository; path: the directory in it that is asked for; targets: see `links_in`."""
    found = Selection()
    prefix = f"{path}/" if path else ""
    directories = {above for each in tree for above in _above(each)}
    for each in sorted(tree):
        if not each.startswith(prefix) or any(label.startswith(".") for label in each[len(prefix) :].split("/")):
            continue
        if shown(each) != each:
            found.ignored.append((shown(each), "its name is not UTF-8"))
            continue
        blob = _follow(each, tree, targets, directories)
        if isinstance(blob, str):
            found.ignored.append((each, blob))
        elif not each.endswith(SUFFIXES):
            found.ignored.append((each, no_suffix()))
        else:
            found.files[each] = blob
    return found


def _above(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _follow(path: str, tree: Mapping[str, Blob], targets: Mapping[str, bytes], directories: set[str]) -> Blob | str:
    """What it leads to by links that stay in the repository; or why it leads to nothing."""
    for _ in range(_MAX_LINKS):
        blob = tree.get(path)
        if blob is None:
            return "a symlinked directory" if path in directories else "a dangling link"
        if blob.mode == _SUBMODULE:
            return "a submodule"
        if blob.mode != _LINK:
            return blob
        if blob.id not in targets:
            return "a link that is too long"
        target = targets[blob.id].decode(errors="surrogateescape")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if path.startswith(("/", "../")) or path == "..":
            return "a link out of the repository"
    return "a loop of links"
