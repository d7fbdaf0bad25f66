"""Calling one CNI plugin: parameters in its environment, the configuration on its stdin, the result from its stdout.

A plugin gets nothing of the agent's environment but a PATH, and a time: one that takes longer is killed with all it
started. What it says of a failure is kept ({code, msg, details}, "well-known error codes" of the specification).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.errors import Retryable
from reconciler.runtime import programs

SECONDS = 25.0  # for all of a chain
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SAID = 400  # characters of what is not JSON that a message shows


@dataclass(frozen=True, slots=True)
class Call:
    """verb: ADD, DEL or CHECK. netns: a path, empty when there is none any more. arguments: CNI_ARGS."""

    verb: str
    container: str
    netns: str
    ifname: str
    arguments: str = ""


class Refused(Retryable):
    """A plugin ran, and said that it failed."""


class Plugins:
    """Those in some directories, the first that has one first. seconds: that a chain has for one verb."""

    def __init__(self, directories: Sequence[Path], seconds: float = SECONDS) -> None:
        self.directories = tuple(directories)
        self.seconds = seconds

    def missing(self, kind: str) -> str | None:
        """Why there is no such plugin; None when there is one."""
        if self._find(kind) is not None:
            return None
        return f"there is no CNI plugin {kind} in {', '.join(map(str, self.directories))}"

    def run(self, kind: str, call: Call, config: Mapping[str, Any], until: float) -> dict[str, Any] | None:
        """Its result; None when it says nothing. until: of the monotonic clock. Raises Refused, and Retryable for any
        other failure."""
        found = self._find(kind)
        if found is None:
            raise Retryable(f"{self.missing(kind)}, which {call.verb} for {call.container} needs")
        what = f"CNI plugin {kind}, {call.verb} {call.ifname} of network {config['name']}"
        environment = {
            "PATH": _PATH,
            "CNI_COMMAND": call.verb,
            "CNI_CONTAINERID": call.container,
            "CNI_NETNS": call.netns,
            "CNI_IFNAME": call.ifname,
            "CNI_PATH": ":".join(map(str, self.directories)),
            **({"CNI_ARGS": call.arguments} if call.arguments else {}),
        }
        try:
            asked = json.dumps(config).encode()
            left = max(0.0, until - time.monotonic())
            done = programs.converse([str(found)], asked, left, env=environment, cwd="/")
        except subprocess.TimeoutExpired:
            raise Retryable(
                f"{what}: was not done when its chain had had {self.seconds:.0f} s, and was killed"
            ) from None
        except OSError as error:
            raise Retryable(f"{what}: could not be run: {error}") from None
        answer = _parsed(done.stdout)
        if done.returncode != 0:
            raise Refused(f"{what}: {_complaint(answer, done.stdout or done.stderr, done.returncode)}")
        return answer

    def _find(self, kind: str) -> Path | None:
        paths = (directory / kind for directory in self.directories)
        return next((path for path in paths if os.access(path, os.X_OK)), None)


def _parsed(out: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(out)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _complaint(answer: Mapping[str, Any] | None, said: bytes, code: int) -> str:
    if answer is not None and "msg" in answer:
        details = f" ({answer['details']})" if answer.get("details") else ""
        return f"{answer['msg']}{details}"
    shown = said.decode(errors="replace").strip()[:_SAID]
    return f"exit {code}{f': {shown}' if shown else ', without a word'}"
