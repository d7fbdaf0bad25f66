"""The agent's hooks, asked in their order at three points in the life of every container, whoever runs it.

    preLaunch   before each start, and before what runs is ended for it: may add variables, may veto
    postFetch   in a launch, once what the spec wants in the sandbox is there, before the payload runs
    remove      once it is gone for good, before its sandbox is; asked in the reverse order

Each is a child process: one line of JSON on its standard input, an answer in JSON on its standard output. Invariants:
each has its time limit and is killed with its process group when that is over or when nobody wants its answer any more;
what it says wrong is the failure of one container, with the hook's name in it. After Mesos's hooks (slavePreLaunch…,
slavePostFetch…, slaveRemoveExecutor…), which are modules loaded into the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.hooks.answers import GROUP, MOST, Unusable, Veto, variables
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

MOST_SECONDS = 60.0
VERSION = 1
_KEPT = 400


class Point(StrEnum):
    PRE_LAUNCH = "preLaunch"
    POST_FETCH = "postFetch"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Hook:
    """name: as the operator gave it; argv: what is run, to which the point's name is added."""

    name: str
    argv: tuple[str, ...]


def named(name: str) -> Hook:
    """A path is an executable, anything else an entry point of the group."""
    if "/" in name:
        return Hook(name, (name,))
    return Hook(name, (sys.executable, "-P", "-m", "reconciler.runtime.hooks.child", name))


def find(names: Sequence[str]) -> None:
    """Raises Terminal for one that does not exist."""
    for name in names:
        if "/" not in name:
            _find_entry_point(name)
        elif not name.startswith("/"):
            raise Terminal(f"--hooks {name}: give an absolute path, or the name of an entry point of {GROUP}")
        elif not Path(name).is_file() or not os.access(name, os.X_OK):
            raise Terminal(f"--hooks {name}: is no file that can be executed")


def _find_entry_point(name: str) -> None:
    from importlib import metadata

    known = {each.name for each in metadata.entry_points(group=GROUP)}
    if name not in known:
        there_are = f"there are: {', '.join(sorted(known))}" if known else "none is installed"
        raise Terminal(f"--hooks {name}: no entry point of {GROUP} has that name; {there_are}")


class Hooks:
    """seconds: what each of them may take."""

    def __init__(self, hooks: Sequence[Hook] = (), seconds: float = 10.0) -> None:
        self._hooks, self._seconds = tuple(hooks), seconds

    async def pre_launch(self, spec: ContainerSpec, sandbox: Path) -> Mapping[str, str]:
        """The variables to add; of two hooks that name one, the later has the last word. Raises Retryable."""
        found: dict[str, str] = {}
        for hook in self._hooks:
            answer = await self._ask(hook, Point.PRE_LAUNCH, spec, sandbox)
            try:
                found.update(variables(answer))
            except Veto as veto:
                said = f"the hook {hook.name} does not let it start: {veto}"
                raise Retryable(said, Reason.HOOK_VETOED) from None
            except Unusable as error:
                raise _failed(hook, Point.PRE_LAUNCH, str(error)) from None
        return found

    async def post_fetch(self, spec: ContainerSpec, sandbox: Path) -> None:
        """Raises Retryable."""
        for hook in self._hooks:
            await self._ask(hook, Point.POST_FETCH, spec, sandbox)

    async def remove(self, spec: ContainerSpec, sandbox: Path) -> None:
        """Raises Retryable."""
        for hook in reversed(self._hooks):
            await self._ask(hook, Point.REMOVE, spec, sandbox)

    async def _ask(self, hook: Hook, point: Point, spec: ContainerSpec, sandbox: Path) -> bytes:
        """What it answers. Raises Retryable."""
        question = json.dumps(_question(point, spec, sandbox)).encode() + b"\n"
        try:
            process = await asyncio.create_subprocess_exec(
                *(*hook.argv, point.value),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise _failed(hook, point, f"it cannot be run: {error}") from error
        done = False
        try:
            async with asyncio.timeout(self._seconds):
                out, err = await _conversation(process, question)
                code = await process.wait()
            done = True
        except TimeoutError:
            raise _failed(hook, point, f"it had not answered after {self._seconds:g} s and was killed") from None
        finally:
            if not done:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so its number is no other's
                await process.wait()
        if code:
            how = f"killed by signal {-code}" if code < 0 else f"exited with code {code}"
            words = " ".join(err[-_KEPT:].decode(errors="replace").split())
            raise _failed(hook, point, f"{how}{': ' + words if words else ''}")
        if len(out) > MOST:
            raise _failed(hook, point, f"its answer is longer than {MOST} bytes")
        return out


async def _conversation(process: asyncio.subprocess.Process, question: bytes) -> tuple[bytes, bytes]:
    assert process.stdin and process.stdout and process.stderr

    async def ask(stdin: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # it need not read what it has no use for
            stdin.write(question)
            await stdin.drain()
        stdin.close()

    _, out, err = await asyncio.gather(
        ask(process.stdin), _all(process.stdout, MOST + 1), _all(process.stderr, 1 << 16, tail=True)
    )
    return out, err


async def _all(stream: asyncio.StreamReader, most: int, *, tail: bool = False) -> bytes:
    """Until it ends, however much there is; of that the first, or the last, `most` bytes."""
    kept = b""
    while data := await stream.read(1 << 16):
        kept = (kept + data)[-most:] if tail else (kept + data)[:most]
    return kept


def _question(point: Point, spec: ContainerSpec, sandbox: Path) -> dict[str, Any]:
    asked = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    about = {"name": spec.name, "type": spec.type, "labels": spec.labels, "annotations": spec.annotations}
    given = {key: value for key, value in asked.items() if key not in ("name", "labels", "annotations")}
    return {"version": VERSION, "hook": point.value, **about, "sandbox": str(sandbox), "spec": given}


def _failed(hook: Hook, point: Point, why: str) -> Retryable:
    return Retryable(f"the hook {hook.name} failed at {point.value}: {why}", Reason.HOOK_FAILED)
