"""Short ways to write the values the loop decides on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from reconciler.loop.desired import desire
from reconciler.loop.digests import launch_digest
from reconciler.loop.values import Desired, DesiredContainer, Life, Observed, Origin, Record, Recorded
from reconciler.runtime.containerizer import ContainerStatus, Termination
from reconciler.spec.loader import Parsed, load_bytes
from reconciler.spec.model import ContainerSpec
from reconciler.spec.normal import SCHEMA, digest
from reconciler.spec.sources.listing import FileEntry, Listing, ListingState
from reconciler.states import ContainerState, Reason

SOURCE = "/specs"
NOW = 1_000_000.0


def spec(name: str, *command: str, **fields: Any) -> ContainerSpec:
    """Without a command: a holder."""
    return ContainerSpec(name=name, command=command or None, **fields)


def asked(one: ContainerSpec, file: str = "web.yaml", source: str = SOURCE) -> DesiredContainer:
    return DesiredContainer(one, digest(one), Origin(source, file))


def desired(*specs: ContainerSpec, **fields: Any) -> Desired:
    return Desired(SOURCE, {one.name: asked(one) for one in specs}, **fields)


def record(one: ContainerSpec, life: Life | None = None, *, file: str = "web.yaml", source: str = SOURCE) -> Record:
    """Of a container that was started an hour ago, unless `life` says otherwise."""
    life = life or Life(starts=1, started_at=NOW - 3600)
    return Record(one.name, SCHEMA, one, digest(one), 1, Origin(source, file), life)


def recorded(*records: Record) -> Recorded:
    return Recorded({one.name: one for one in records})


def exit_of(code: int | None = None, signal: int | None = None, ago: float = 12.0) -> Termination:
    reason = Reason.EXITED if code is not None else Reason.SIGNALED
    return Termination(code, signal, reason, NOW - ago)


def status(one: ContainerSpec, state: ContainerState | None = ContainerState.RUNNING, **fields: Any) -> ContainerStatus:
    fields = {"pid": 4711, "started_at": NOW - 3600} | fields
    return ContainerStatus(one.name, "mesos", state, launch_digest(one, digest(one)), **fields)


def ended(one: ContainerSpec, termination: Termination) -> ContainerStatus:
    return status(one, None, pid=None, termination=termination)


def observed(*statuses: ContainerStatus, **unknown: str) -> Observed:
    return Observed({one.name: one for one in statuses}, unknown)


def document(name: str, body: str = "command: [sleep, infinity]", labels: str = "") -> str:
    """`body`: the lines of spec, unindented."""
    lines = "\n".join("  " + line for line in body.splitlines())
    return f"apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}{labels}}}\nspec:\n{lines}\n"


def listing(files: dict[str, str] | Iterable[tuple[str, str]], **fields: Any) -> Listing:
    entries = []
    for path, text in sorted(dict(files).items()):
        entries.append(FileEntry(path, digest_of(text), parsed(text, path)))
    return Listing(fields.pop("state", ListingState.OK), files=tuple(entries), **fields)


@lru_cache(1024)
def parsed(text: str, path: str) -> Parsed:
    return load_bytes(text.encode(), path)


def digest_of(text: str) -> str:
    return f"{hash(text):x}"


def desire_files(files: dict[str, str], *records: Record, **fields: Any) -> Desired:
    return desire(listing(files, **fields), recorded(*records), SOURCE)
