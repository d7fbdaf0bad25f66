"""User namespaces (user_namespaces(7)): writing the maps of one, and which host ids those of this host use.

Standard library only: the keeper writes the maps.
"""

from __future__ import annotations

import os

from reconciler.runtime.kernel.syscalls import NAMESPACES

_MOST = "/proc/sys/user/max_user_namespaces"
_FILE = NAMESPACES["user"][1]


def write_maps(pid: int, first: int, size: int) -> None:
    """Ids 0 to size - 1 in that process's user namespace are `first` and those after it here. Once only, and only with
    the privileges of the namespace that it was made in; setgroups(2) stays allowed then."""
    for name in ("uid_map", "gid_map"):
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0 %d %d\n" % (first, size))
        finally:
            os.close(fd)


def parse_map(text: str) -> list[range]:
    """The outer ids of a uid_map or gid_map, as the reader's own user namespace has them."""
    found = []
    for line in text.splitlines():
        _, outer, size = (int(word) for word in line.split())
        found.append(range(outer, outer + size))
    return found


def ranges_in_use() -> list[range]:
    """The ids that any process of this host has in a user namespace other than ours."""
    seen = {os.stat(f"/proc/self/ns/{_FILE}").st_ino}
    found: list[range] = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            inode = os.stat(f"/proc/{entry.name}/ns/{_FILE}").st_ino
            if inode in seen:
                continue
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{entry.name}/{name}", encoding="ascii") as file:
                    found += parse_map(file.read())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        seen.add(inode)
    return found


def why_none() -> str | None:
    """Why this kernel makes no user namespaces, even for root; None when it does."""
    if not os.path.exists(f"/proc/self/ns/{_FILE}"):
        return "this kernel has no user namespaces (CONFIG_USER_NS)"
    if _number(_MOST) == 0:
        return f"{_MOST} is 0"
    return None


def why_none_for_users() -> str | None:
    """The same for ordinary users, whom distributions forbid in ways of their own."""
    if (why := why_none()) is not None:
        return why
    for path, forbids in _KNOBS.items():
        if _number(path) == forbids:
            return f"{path} is {forbids}"
    return None


_KNOBS = {"/proc/sys/kernel/unprivileged_userns_clone": 0, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": 1}


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
