"""What the command line has of an engine's containers: logs, a further process, the first one's own streams. Standard
library only.

An engine sends both streams in frames, or, of a container with a terminal, the bytes alone.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from reconciler.errors import ReconcilerError
from reconciler.runtime.docker import hijack, naming, wire
from reconciler.runtime.docker.frames import STDERR, Frames
from reconciler.runtime.kernel.terminals import Size

_SECONDS, _POLL = 10.0, 0.02
_START_SECONDS = 2.0  # that an engine takes to start a process it was told to
_CHUNK = 1 << 16


def copy_logs(url: str, owner: str, name: str, out: BinaryIO, err: BinaryIO, *, follow: bool) -> None:
    """All that the engine has kept of the present run; follow: until it ends. Raises ReconcilerError."""
    container = _container(url, owner, name)
    path = f"/containers/{container['Id']}/logs?stdout=1&stderr=1&follow={int(follow)}"
    _copy(_request(url, "GET", path), out, err, framed=not container["Config"]["Tty"])


def execute(
    url: str,
    owner: str,
    name: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None,
    stdin: bool = False,
    tty: bool = False,
) -> int:
    """Run it inside, with our standard streams; its exit code. It ends when we do. Raises ReconcilerError."""
    container = _container(url, owner, name)
    asked: dict[str, Any] = {"Cmd": list(argv), "AttachStdin": stdin, "AttachStdout": True, "AttachStderr": True}
    asked |= {"Tty": tty, "Env": [f"{key}={value}" for key, value in env.items()]}
    asked |= {"WorkingDir": cwd} if cwd else {}
    id = json.loads(_request(url, "POST", f"/containers/{container['Id']}/exec", asked).read())["Id"]
    try:
        sock, rest = hijack.opened(url, f"/exec/{id}/start", {"Detach": False, "Tty": tty})
        hijack.relay(sock, rest, tty=tty, stdin=stdin, detach=False, resize=_resizer(url, f"/exec/{id}"))
        while (found := _exec(url, id))["Running"]:  # its output may end first, and is told of first
            time.sleep(_POLL)
    except BaseException:
        _end(url, id)
        raise
    return int(found["ExitCode"])


def _end(url: str, id: str) -> None:
    """We are ended first, perhaps while the engine starts it."""
    deadline = time.monotonic() + _START_SECONDS
    while (found := _exec(url, id))["ExitCode"] is None and time.monotonic() < deadline:
        if found["Running"] and found["Pid"]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(found["Pid"], signal.SIGKILL)
            return
        time.sleep(_POLL)


def _exec(url: str, id: str) -> Any:
    found = wire.get(url, f"/exec/{id}/json", _SECONDS)
    if found is None:
        raise ReconcilerError("its exit code cannot be had: its container is gone")
    return found


def attach(url: str, owner: str, name: str, *, stdin: bool) -> tuple[bool, str]:
    """The live output of its first process, and its input: (whether the connection was lost, how it ended)."""
    container = _container(url, owner, name)
    config, id = container["Config"], container["Id"]
    if not container["State"]["Running"]:
        raise ReconcilerError(f"{name} is not running")
    if not (config["Tty"] or config["OpenStdin"]):
        hint = "set spec.tty or spec.stdin, or use `reconciler logs -f`"
        raise ReconcilerError(f"{name} has neither a terminal nor an open standard input: {hint}")
    path = f"/containers/{id}/attach?stream=1&stdout=1&stderr=1&stdin={int(stdin)}"
    sock, rest = hijack.opened(url, path, {})
    resize = _resizer(url, f"/containers/{id}")
    if hijack.relay(sock, rest, tty=config["Tty"], stdin=stdin, detach=True, resize=resize) is hijack.Over.DETACHED:
        return False, "detached"
    try:
        left = wire.get(url, f"/containers/{id}/json", _SECONDS)
    except OSError:
        return True, "the connection was lost"
    lost = left is not None and left["State"]["Running"]
    return lost, "the connection was lost" if lost else "the container has ended"


def _resizer(url: str, path: str) -> Callable[[Size], object]:
    return lambda size: _request(url, "POST", f"{path}/resize?h={size.rows}&w={size.columns}").read()


def _container(url: str, owner: str, name: str) -> Any:
    try:
        found = wire.get(url, f"/containers/{naming.engine_name(owner, name)}/json", _SECONDS)
    except OSError as error:
        raise ReconcilerError(f"{name}: the Docker Engine at {url} does not answer: {error}") from error
    if found is None:
        raise ReconcilerError(f"{name}: the Docker Engine at {url} has no container of it")
    return found


def _request(url: str, method: str, path: str, body: Any = None) -> http.client.HTTPResponse:
    """Without a limit on how long its answer lasts: what follows may take as long as it takes."""
    connection = wire.connection(url, None)
    text = None if body is None else json.dumps(body)
    try:
        connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise ReconcilerError(f"the Docker Engine at {url} does not answer: {error}") from error
    if answer.status >= 400:
        said = answer.read().decode(errors="replace").strip()
        raise ReconcilerError(f"the Docker Engine at {url} refuses: {said}")
    return answer


def _copy(answer: http.client.HTTPResponse, out: BinaryIO, err: BinaryIO, *, framed: bool) -> None:
    frames = Frames()
    while data := answer.read1(_CHUNK):
        for stream, piece in frames.feed(data) if framed else ((0, data),):
            into = err if stream == STDERR else out
            into.write(piece)
            into.flush()
