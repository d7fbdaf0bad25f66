"""What of ours is left on the machine: a snapshot before, another after, a sentence per difference.

Guards the promise that one second after the last container went no process, cgroup, mount, network
namespace, link, nftables table, socket or file of it is left. Processes are ours by descent (see
`processes.Nursery`), the rest by our directories and owner id; with `everything` (CI, where the
machine is ours alone) whatever is new counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests import processes
from tests.processes import names

PROMISE = 1.0  # seconds after the last container went
KEPT = {"lock", "keeper.lock", "owner", "notes.json", "events.jsonl", "events.1.jsonl"}  # these belong to no container


@dataclass(frozen=True, slots=True)
class Scope:
    """What is ours: `directories` (state, runtime, specs), `owners` (cgroup directory names), `runtime`
    (where nothing may stay but what KEPT names), `cgroups_root` (ours to remove when empty)."""

    directories: tuple[Path, ...] = ()
    owners: tuple[str, ...] = ()
    runtime: tuple[Path, ...] = ()
    cgroups_root: str = "reconciler"
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Each a map of identity → how to say it."""

    processes: dict[tuple[int, int], str] = field(default_factory=dict)
    cgroups: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)
    networks: dict[int, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    sockets: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def take(scope: Scope) -> Snapshot:
    ours = processes.below(os.getpid())
    return Snapshot(
        processes={(each.pid, each.start): f"{each} still runs" for each in ours},
        cgroups={path: f"cgroup {path} is left ({_members(path)})" for path in _cgroups(scope)},
        mounts=dict(_mounts(scope)),
        networks=dict(_networks(scope, {each.pid for each in ours})),
        links={name: f"network link {name} is left" for name in _links(scope)},
        tables={line: f"nftables {line} is left" for line in _tables(scope)},
        sockets={path: f"unix socket {path} is left" for path in _sockets(scope)},
        files={path: f"file {path} is left" for path in _files(scope)},
    )


def leaks(before: Snapshot, after: Snapshot) -> list[str]:
    """A sentence for each thing that `after` has and `before` had not."""
    sentences: list[str] = []
    for kind in Snapshot.__dataclass_fields__:
        old, new = getattr(before, kind), getattr(after, kind)
        sentences += [sentence for identity, sentence in sorted(new.items()) if identity not in old]
    return sentences


def left(before: Snapshot, scope: Callable[[], Scope], within: float = PROMISE) -> list[str]:
    """The leaks that are still there when the promised time is over."""
    deadline = time.monotonic() + within * processes.PATIENCE
    while True:
        late = time.monotonic() >= deadline  # judged before looking, so that the last look comes after the deadline
        found = leaks(before, take(scope()))
        if not found or late:
            return found
        time.sleep(0.02)


def sweep(scope: Scope, before: Snapshot) -> None:
    """After a leak was reported: remove it by force, so that one failure does not become many."""
    now = take(scope)
    for pid, start in now.processes.keys() - before.processes.keys():
        if processes.alive(pid, start):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for line in now.mounts.keys() - before.mounts.keys():
        processes.run(["umount", "-l", _octal(line.split()[4])])
    _remove_cgroups(sorted(now.cgroups.keys() - before.cgroups.keys(), key=len, reverse=True))


def _remove_cgroups(paths: list[str], within: float = 2.0) -> None:
    deadline = time.monotonic() + within
    while paths and time.monotonic() < deadline:
        for path in paths:
            with contextlib.suppress(OSError):
                Path(path).rmdir()
        paths = [path for path in paths if Path(path).is_dir()]
        time.sleep(0.01)


def _octal(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _mountinfo() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def hierarchies() -> list[str]:
    """Where each cgroup hierarchy is mounted."""
    mounts = (line.split() for line in _mountinfo())
    return sorted({_octal(line[4]) for line in mounts if line[line.index("-") + 1] in ("cgroup", "cgroup2")})


def _cgroups(scope: Scope) -> Iterator[str]:
    for mount in hierarchies():
        for directory, below, _ in os.walk(mount):
            if directory == mount:
                continue
            parts = directory[len(mount) + 1 :].split("/")
            emptied_root = parts == [scope.cgroups_root] and not below
            unexpected = scope.everything and len(parts) == 1  # below another's directory, it is another's
            if unexpected or emptied_root or any(part in scope.owners for part in parts):
                yield directory


def _members(path: str) -> str:
    try:
        pids = Path(path, "cgroup.procs").read_text().split()
    except OSError:
        return "being removed"
    return "empty" if not pids else "with " + ", ".join(str(processes.read(int(pid)) or pid) for pid in pids)


def _mounts(scope: Scope) -> Iterator[tuple[str, str]]:
    for line in _mountinfo():
        fields = line.split()
        root, target = _octal(fields[3]), _octal(fields[4])
        ours = any(_under(root, directory) or _under(target, directory) for directory in scope.directories)
        if scope.everything or ours:
            yield line, f"mount {target} ({' '.join(fields[fields.index('-') + 1 :])}) is left"


def _under(path: str, directory: Path) -> bool:
    return path == str(directory) or path.startswith(f"{directory}/")


def _networks(scope: Scope, ours: set[int]) -> Iterator[tuple[int, str]]:
    """Network namespaces that our processes are in or hold open, this very process included."""
    for name in filter(str.isdigit, names("/proc")):
        pid = int(name)
        if not (scope.everything or pid in ours or pid == os.getpid()):
            continue
        with contextlib.suppress(OSError):
            yield processes.namespace(pid, "net"), f"network namespace of process {pid} is left"
        with contextlib.suppress(OSError):
            for descriptor in names(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    held = re.fullmatch(r"net:\[(\d+)\]", str(Path(f"/proc/{pid}/fd/{descriptor}").readlink()))
                    if held:
                        yield int(held[1]), f"network namespace {held[1]} is left, held open by process {pid}"


def _links(scope: Scope) -> Iterator[str]:
    """Ours bear six digits of the owner in their name; others' tests make theirs at the same time."""
    marks = tuple(f"rc{owner[:6]}" for owner in scope.owners)
    return (name for name in names("/sys/class/net") if scope.everything or (marks and name.startswith(marks)))


def _tables(scope: Scope) -> list[str]:
    """Ours bear twelve digits of the owner in their name."""
    nft = shutil.which("nft")
    if nft is None or os.geteuid() != 0:
        return []
    lines = processes.run([nft, "list", "tables"]).stdout.splitlines()
    marks = {f"reconciler_{owner[:12]}" for owner in scope.owners}
    return [line for line in lines if scope.everything or line.split()[-1] in marks]


def _sockets(scope: Scope) -> Iterator[str]:
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        path = line.split(maxsplit=7)[7:]
        if path and any(_under(path[0], directory) for directory in scope.directories):
            yield path[0]


def _files(scope: Scope) -> Iterator[str]:
    for runtime in scope.runtime:
        for directory, _, files in os.walk(runtime):
            yield from (os.path.join(directory, name) for name in files if name not in KEPT)
