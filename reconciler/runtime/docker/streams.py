"""Output of an engine's containers, for the command line: logs, and a further process. Standard library only.

An engine sends both streams in frames (stream, three zeros, length, bytes: its API's "attach" format), or, of a
container with a terminal, the bytes alone.
"""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from reconciler.errors import ReconcilerError
from reconciler.runtime.docker import naming, wire

_SECONDS = 10.0
_HEADER = struct.Struct(">B3xL")
_STDERR = 2
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
    out: BinaryIO,
    err: BinaryIO,
    *,
    env: Mapping[str, str],
    cwd: str | None,
) -> int:
    """Run it inside, without standard input; its exit code. Raises ReconcilerError."""
    container = _container(url, owner, name)
    asked: dict[str, Any] = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True}
    asked |= {"Env": [f"{key}={value}" for key, value in env.items()]} | ({"WorkingDir": cwd} if cwd else {})
    made = json.loads(_request(url, "POST", f"/containers/{container['Id']}/exec", asked).read())
    started = _request(url, "POST", f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False})
    _copy(started, out, err, framed=True)
    return int(wire.get(url, f"/exec/{made['Id']}/json", _SECONDS)["ExitCode"])


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
    while not framed and (data := answer.read1(_CHUNK)):
        out.write(data)
        out.flush()
    while framed and len(header := answer.read(_HEADER.size)) == _HEADER.size:
        stream, size = _HEADER.unpack(header)
        into = err if stream == _STDERR else out
        into.write(answer.read(size))
        into.flush()
