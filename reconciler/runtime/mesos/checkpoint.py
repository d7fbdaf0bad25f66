"""The checkpoint of one run: `RUNTIME/containers/<name>/run.json`, and the files of its end beside it.

    run.json   who it is (run id, boot id, pid, start time) and what a later agent needs to adopt or destroy it;
               written before the fork, before the release, and at every change of state
    exit       the payload's raw wait status, decimal, by the container's init
    reaped     the first process's raw wait status, decimal, by the keeper
    limitation.json   why it is ended, once an isolator had that done

The identity is on disk before the child may run, so no process of ours is ever unknown. Standard library
only: reading verbs and recovery share this.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from reconciler.runtime import durable
from reconciler.runtime.containerizer import ContainerStatus, Termination
from reconciler.runtime.isolators.isolator import Limitation
from reconciler.runtime.mesos.migration import VERSION, migrate
from reconciler.states import ContainerState, Reason

RUN, EXIT, REAPED, LIMITATION = "run.json", "exit", "reaped", "limitation.json"


class Unreadable(Exception):
    """A checkpoint that cannot be understood; its container is quarantined, no other."""


@dataclass(frozen=True, slots=True)
class Run:
    """state None: ended and cleaned up. pid None: not forked yet. start: clock ticks since boot.
    log_size, log_files: bounds of its log files, see `rotation`. kill_at: while it is destroyed, seconds of the boot
    clock (CLOCK_BOOTTIME) at which its grace is over; None until it was told to end. health_checks: its image's."""

    name: str
    run: str
    boot: str
    digest: str
    launcher: str
    state: ContainerState | None
    pid: int | None = None
    start: int | None = None
    started_at: float | None = None
    kill_signal: str = "SIGTERM"
    grace: float = 3.0
    namespaces: Mapping[str, int] = field(default_factory=dict)
    cgroups: Mapping[str, str] = field(default_factory=dict)
    sandbox: str = ""
    logs: str = ""
    log_size: int = 0
    log_files: int = 1
    plan: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    kill_at: float | None = None
    health_checks: tuple[Mapping[str, Any], ...] = ()
    termination: Termination | None = None

    def status(self) -> ContainerStatus:
        return ContainerStatus(
            name=self.name,
            containerizer="mesos",
            state=self.state,
            digest=self.digest,
            pid=self.pid if self.termination is None and self.state is not None else None,
            started_at=self.started_at,
            termination=self.termination,
            namespaces=self.namespaces,
            cgroups=self.cgroups,
            message=self.message,
            health_checks=self.health_checks,
        )


class Checkpoints:
    """All checkpoints below one runtime directory."""

    def __init__(self, runtime_dir: Path) -> None:
        self.base = runtime_dir / "containers"

    def directory(self, name: str) -> Path:
        return self.base / name

    def names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.base) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def read(self, name: str) -> Run | None:
        """None when there is none. Raises Unreadable."""
        path = self.directory(name) / RUN
        try:
            return _from_json(json.loads(path.read_bytes()), name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unreadable(f"{path}: {error}") from error

    def write(self, run: Run) -> None:
        directory = self.directory(run.name)
        text = json.dumps({"version": VERSION, **_to_json(run)})
        temporary = directory / f"{RUN}.new"
        try:
            temporary.write_text(text)
        except FileNotFoundError:
            directory.mkdir(mode=0o700, parents=True)
            temporary.write_text(text)
        temporary.rename(directory / RUN)

    def open_end(self, name: str, file: str, *, fresh: bool) -> int:
        """A descriptor for `exit` or `reaped`. fresh: a new run begins, whatever an earlier one left is gone."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_TRUNC if fresh else 0)
        return os.open(self.directory(name) / file, flags, 0o600)

    def read_end(self, name: str, file: str) -> int | None:
        """The raw wait status in `exit` or `reaped`; None while it has not been written whole."""
        try:
            line = (self.directory(name) / file).read_bytes()
        except FileNotFoundError:
            return None
        return int(line) if line.endswith(b"\n") and line[:-1].isdigit() else None

    def write_limitation(self, name: str, found: Limitation) -> None:
        text = json.dumps({"reason": found.reason, "message": found.message})
        durable.replace(self.directory(name) / LIMITATION, text.encode(), sync=False)

    def read_limitation(self, name: str) -> Limitation | None:
        """None when there is none, or it cannot be read."""
        try:
            data = json.loads((self.directory(name) / LIMITATION).read_bytes())
            return Limitation(Reason(data["reason"]), str(data["message"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.directory(name))


def _to_json(run: Run) -> dict[str, Any]:
    """Shallow, unlike `asdict`: a launch plan is large and is only passed on."""
    data = {each.name: getattr(run, each.name) for each in fields(run)}
    if run.termination is not None:
        data["termination"] = asdict(run.termination)
    return data


_NUMBER = (int, float)
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "run", "boot", "digest", "launcher", "kill_signal", "sandbox", "logs", "message"), str),
    **dict.fromkeys(("log_size", "log_files"), int),
    "health_checks": list,
    **dict.fromkeys(("pid", "start"), (int, type(None))),
    **dict.fromkeys(("namespaces", "cgroups", "plan"), dict),
    "grace": _NUMBER,
    **dict.fromkeys(("started_at", "kill_at"), (*_NUMBER, type(None))),
}


def _from_json(data: Any, name: str) -> Run:
    if not isinstance(data, dict):
        raise ValueError("not an object")
    data = migrate(data)
    for key, kind in _KINDS.items():
        if key in data and not isinstance(data[key], kind):
            raise TypeError(f"{key} is {data[key]!r}")
    if data["name"] != name:
        raise ValueError(f"is about {data['name']!r}")
    data["health_checks"] = tuple(data.get("health_checks", ()))
    data["state"] = ContainerState(data["state"]) if data["state"] is not None else None
    if data["termination"] is not None:
        data["termination"]["reason"] = Reason(data["termination"]["reason"])
        data["termination"] = Termination(**data["termination"])
    return Run(**data)
