"""Isolator `namespaces/user`: host ids for each container with a user namespace of its own.

Every one gets 65536 of them, from a pool that is nobody's: by default 1879048192 to 2147352575, which systemd's table
of ids (UIDS-GIDS.md) leaves unused. Left out are ranges with an account of this host in them, or set aside in
/etc/subuid and /etc/subgid, and those that any process of this host has mapped, whoever started it: the kernel is
asked, so that containers of an agent that died, of another agent, or of an engine count as well. Which range is tried
first follows from the name, so that two agents seldom want the same one, and a container mostly gets its old one
again. The range is in the launch plan, which is checkpointed with the container; nested containers share it.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, PassiveIsolator, Support
from reconciler.runtime.isolators.namespaces import entered, mapped
from reconciler.runtime.kernel import userns
from reconciler.runtime.launcher.pins import PINS
from reconciler.spec.namespaces import Sharing, effective

IDS = 65536
POOL = range(0x70000000, 0x7FFE0000)
_HIGHEST = 2**32 - 2  # the one above means "leave it as it is" to setresuid(2)


def parse_pool(text: str | None) -> range:
    """FIRST-LAST, both included. Raises Terminal."""
    if text is None:
        return POOL
    first, _, last = text.partition("-")
    if not first.isdecimal() or not last.isdecimal():
        raise Terminal(f"--user-ids {text}: must be FIRST-LAST, such as {POOL[0]}-{POOL[-1]}")
    pool = range(int(first), int(last) + 1)
    if len(pool) < IDS:
        raise Terminal(f"--user-ids {text}: holds {len(pool)} ids, but each container needs {IDS}")
    if pool[0] < IDS or pool[-1] > _HIGHEST:
        raise Terminal(f"--user-ids {text}: must lie between {IDS} and {_HIGHEST}, clear of the host's own accounts")
    return pool


def choose(pool: range, used: Iterable[range], name: str) -> range | None:
    """The first free range of IDS from where `name` begins, in a circle; None when there is none. Pure."""
    count = len(pool) // IDS
    taken: set[int] = set()
    for each in used:
        # what includes the host's root sets nobody apart: a namespace with all of the host's ids
        if len(each) and each[0] > 0 and each[0] <= pool[-1] and each[-1] >= pool[0]:
            low, high = max(each[0], pool[0]), min(each[-1], pool[-1])
            taken.update(range((low - pool[0]) // IDS, (high - pool[0]) // IDS + 1))
    start = zlib.crc32(name.encode()) % count
    for number in (*range(start, count), *range(start)):
        if number not in taken:
            first = pool[0] + number * IDS
            return range(first, first + IDS)
    return None


def set_aside(etc: Path = Path("/etc")) -> list[range]:
    """Ids of this host's accounts, and those that its users have been given."""
    found = []
    for name in ("passwd", "group"):
        numbers = (int(fields[2]) for fields in _entries(etc / name) if len(fields) > 2 and fields[2].isdecimal())
        found += [range(number, number + 1) for number in numbers]
    for name in ("subuid", "subgid"):
        for fields in _entries(etc / name):
            if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal():
                found.append(range(int(fields[1]), int(fields[1]) + int(fields[2])))
    return found


def _entries(path: Path) -> list[list[str]]:
    try:
        return [line.split(":") for line in path.read_text(errors="replace").splitlines()]
    except FileNotFoundError:
        return []


class UserNamespaceIsolator(PassiveIsolator):
    name = "namespaces/user"

    def __init__(
        self,
        runtime_dir: Path,
        pool: range,
        owner: str,
        in_use: Callable[[], Sequence[range]] = userns.ranges_in_use,
    ) -> None:
        """owner: who asks, so that agents begin at different places. in_use: what the kernel says."""
        self._pins = os.path.join(os.path.realpath(runtime_dir), PINS)
        self._pool = pool
        self._owner = owner
        self._in_use = in_use
        self._held: dict[str, range] = {}  # given, and not yet, or no longer, to be seen in the kernel
        self._giving = threading.Lock()

    def support(self) -> Support:
        why = userns.why_none()
        return Support(Level.NOT_HERE, why) if why else Support()

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        if not mapped(config, context):
            return None
        if effective(config.spec)["user"] is Sharing.PARENT:
            return LaunchInfo(user={"of": "parent", "enter": entered(config, context), "detach": self._pins})
        ids = self._give(config.name)
        user = {"first": ids[0], "size": len(ids), "detach": self._pins}
        return LaunchInfo(namespaces=frozenset({"user"}), user=user)

    def _give(self, name: str) -> range:
        with self._giving:
            used = [*set_aside(), *self._in_use(), *(held for other, held in self._held.items() if other != name)]
            ids = choose(self._pool, used, f"{self._owner}/{name}")
            if ids is None:
                pool = f"{self._pool[0]}-{self._pool[-1]}"
                raise Retryable(f"{name}: none of the host ids {pool} are free for its user namespace: see --user-ids")
            self._held[name] = ids
            return ids

    def cleanup(self, context: Context) -> None:
        self._held.pop(context.name, None)
