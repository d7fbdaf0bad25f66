"""Who a container with a root file system runs as: its own /etc/passwd and /etc/group, never the host's.

Invariant: nothing in those files, which the container's author or the container itself wrote, makes it anyone but
who the spec names. A number is taken as that number and never looked up as a name; an id is 1 to 10 decimal
digits below 2^32 - 1 (CVE-2024-40635); the files are read within the root. No name service is asked: its modules
would be the container's. Follows passwd(5), group(5) and, for the groups, `docker run --user`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import Terminal
from reconciler.runtime.kernel import rootpaths
from reconciler.runtime.provisioner import layers
from reconciler.states import Reason

MAX_ID = 2**32 - 2
PASSWD, GROUP = "/etc/passwd", "/etc/group"
LARGEST_FILE = 4 * 1024 * 1024
IN_IMAGES = 0
"""The group of a uid that an image's files do not know: images are built for what an engine makes of it."""

_MOST_GROUPS = 65536  # NGROUPS_MAX
_DIGITS = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class RootAccount:
    """groups: the supplementary ones, the primary among them."""

    uid: int
    gid: int
    groups: list[int]
    home: str


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    uid: int | None
    gid: int | None
    home: str


def account(rootfs: Path, user: str | None, lone: int | None = None) -> RootAccount:
    """Raises Terminal for a user that cannot be had, OSError when the files cannot be read."""
    with rootpaths.opened(str(rootfs)) as root:
        passwd = rootpaths.read_file(root, PASSWD, LARGEST_FILE) or b""
        group = rootpaths.read_file(root, GROUP, LARGEST_FILE) or b""
    return resolve(user, _text(passwd), _text(group), lone)


def account_in_layers(lowers: Sequence[Path], user: str | None) -> RootAccount:
    """Of an image, whose layers are given from the top down. Raises Terminal, OSError."""
    passwd, group = (layers.read(lowers, path, LARGEST_FILE) for path in (PASSWD, GROUP))
    return resolve(user, _text(passwd), _text(group), IN_IMAGES)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def resolve(user: str | None, passwd: str, group: str, lone: int | None = None) -> RootAccount:
    """None: root. `user` is "name" or "uid", of an image perhaps with ":group" or ":gid". lone: the group of a uid that
    no line has, when none is given; None: the same number."""
    name, colon, wanted_group = ("0", "", "") if user is None else user.partition(":")
    uid = _number(name)
    if uid is None and re.match(r"[0-9]", name):
        raise _refused(f'{user!r} is neither a name nor "uid" nor "uid:gid" with ids up to {MAX_ID}')
    entry = _entry(passwd, name, uid)
    if uid is None:
        if entry is None:
            raise _refused(f"{name!r} is not in the {PASSWD} of the root file system; use a name of it, or uid[:gid]")
        if entry.uid is None or entry.gid is None:
            raise _refused(f"{PASSWD} of the root file system gives {name!r} no usable ids")
        uid = entry.uid
    home = entry.home if entry is not None and entry.home.startswith("/") else "/"
    if colon:
        gid = _gid(group, wanted_group)
        if gid is None:
            raise _refused(f"{user!r}: the group must be a number up to {MAX_ID}, or a name of {GROUP}")
        return RootAccount(uid, gid, [gid], home)
    gid = entry.gid if entry is not None else None
    if gid is None:
        gid = uid if lone is None else lone
    further = _groups_of(group, entry.name) if entry is not None else ()
    return RootAccount(uid, gid, list(dict.fromkeys([gid, *further]))[:_MOST_GROUPS], home)


def _refused(what: str) -> Terminal:
    return Terminal(f"spec.user: {what}", Reason.INVALID_SPEC)


def _number(text: str) -> int | None:
    if _DIGITS.fullmatch(text) is None or int(text) > MAX_ID:
        return None
    return int(text)


def _entry(passwd: str, name: str, uid: int | None) -> _Entry | None:
    """The first line of that name, or, when a uid is asked for, of that uid."""
    for fields in _lines(passwd, 4):
        found = _Entry(fields[0], _number(fields[2]), _number(fields[3]), fields[5] if len(fields) > 5 else "")
        if (found.name == name) if uid is None else (found.uid == uid):
            return found
    return None


def _gid(group: str, wanted: str) -> int | None:
    if re.match(r"[0-9]", wanted):
        return _number(wanted)
    return next((_number(fields[2]) for fields in _lines(group, 4) if fields[0] == wanted), None)


def _groups_of(group: str, name: str) -> Iterator[int]:
    for fields in _lines(group, 4):
        gid = _number(fields[2])
        if gid is not None and name in fields[3].split(","):
            yield gid


def _lines(text: str, least: int) -> Iterator[list[str]]:
    """Only "\\n" ends a line; what is too short, or a comment, is no entry."""
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) >= least and fields[0] and not line.startswith("#"):
            yield fields
