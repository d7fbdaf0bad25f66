"""What the agent asks of the fetcher's child, and what the child answers: lines of JSON. Standard library only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

SLOWEST = 1024
"""Bytes in `seconds`: a server that sends one now and then would hold its container up for ever."""


@dataclass(frozen=True, slots=True)
class Request:
    """source: a URL, a path, or "fd:N"; seconds: in which at least `SLOWEST` bytes must come.

    store:    descriptor of an open file that takes it as it is; None: it goes into the sandbox
    sandbox:  descriptor of the sandbox
    target:   path in the sandbox: the file's own, or for an archive the directory it is unpacked in
    archive:  to be unpacked, as `spec.uris.archive` has it
    owner:    (uid, gid) to become; None: as whoever we are
    """

    source: str
    seconds: float
    sha256: str | None = None
    store: int | None = None
    sandbox: int | None = None
    target: str = ""
    archive: str | None = None
    executable: bool = False
    owner: tuple[int, int] | None = None

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of(cls, line: str) -> Request:
        data: dict[str, Any] = json.loads(line)
        owner = data.pop("owner")
        return cls(**data, owner=(owner[0], owner[1]) if owner else None)


def stalled(seconds: float) -> str:
    """Why it is given up by whoever's clock is over first, the child's or the agent's."""
    return f"less than {SLOWEST} bytes came in {seconds:g} s"


class FetchError(Exception):
    """Why it cannot be had, as the rest of a sentence that begins with the uri."""
