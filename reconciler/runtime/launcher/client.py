"""`exec`: a further process in a running container, in all of its namespaces and in its cgroups.

Works without an agent: the checkpoint says who the container's first process is, the keeper forks. The new
process gets the caller's standard streams, or a terminal of its own, and ends with the caller. Standard library only.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.errors import LaunchFailed, Retryable
from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher import connection, inside
from reconciler.runtime.launcher.cgroup_tree import LEAF
from reconciler.runtime.launcher.child import NOT_EXECUTABLE, NOT_FOUND, PLACE
from reconciler.runtime.launcher.exec_streams import Streams
from reconciler.runtime.launcher.launcher import closing_fds, open_files
from reconciler.states import ContainerState, Reason

if TYPE_CHECKING:
    from reconciler.runtime.mesos.checkpoint import Run


def exec_in(
    run: Run,
    runtime_dir: Path,
    argv: list[str],
    *,
    env: Mapping[str, str],
    cwd: str | None,
    stdin: bool = True,
    tty: bool = False,
) -> int:
    """Run `argv` in the container of `run`, wait, and return its exit code (128+n for a death by signal n). stdin: it
    gets our standard input, else none; tty: it gets a terminal of its own, relayed to ours.
    Raises Retryable when the container does not run, LaunchFailed when the command cannot be started."""
    if run.pid is None or run.start is None or run.state is not ContainerState.RUNNING:
        raise Retryable(f"{run.name} is not running", Reason.STATE_UNKNOWN)
    try:
        pidfd = proc.pidfd(run.pid)
    except ProcessLookupError:
        raise Retryable(f"{run.name} is not running", Reason.STATE_UNKNOWN) from None
    fds = {inside.PARENT: pidfd, **_places(run.cgroups), **open_files(run.plan)}
    with closing_fds(fds), Streams(stdin=stdin, tty=tty) as streams, connection.connect(runtime_dir) as sock:
        if not proc.is_running(run.pid, run.start):
            raise Retryable(f"{run.name} is not running", Reason.STATE_UNKNOWN)
        sock.settimeout(None)
        caller = connection.Caller(sock)
        caller.hello("exec")
        differ = _other_namespaces(run.pid)
        plan = inside.plan(run.plan, differ, argv, env=env, cwd=cwd, tty=streams.tty)
        return _run(caller, run.name, plan, fds, streams, enter_pid="pid" in differ)


def _run(
    caller: connection.Caller,
    name: str,
    plan: Mapping[str, Any],
    fds: Mapping[str, int],
    streams: Streams,
    *,
    enter_pid: bool,
) -> int:
    names: dict[str, Any] = {"name": name, "run": secrets.token_hex(8)}
    fork: dict[str, Any] = {"clone": [], "transient": True, "plan": plan}
    if enter_pid:
        fork["enter_pid"] = inside.PARENT
    try:
        _, given = caller.call("fork", {**streams.lent, **fds}, **names, **fork)
        for fd in given:
            os.close(fd)
        streams.given()
        caller.call("release", **names)
    except connection.KeeperError as error:
        code = NOT_FOUND if error.stage == "exec" and error.errno == errno.ENOENT else NOT_EXECUTABLE
        raise LaunchFailed(f"{name}: {error.sentence()}", code) from error

    def over() -> int | None:
        message, _ = caller.receive()
        if message.get("event") != "exit" or message["run"] != names["run"]:
            return None
        code = os.waitstatus_to_exitcode(message["status"])
        return code if code >= 0 else 128 - code

    return streams.relay(caller.sock, over)


def _other_namespaces(pid: int) -> set[str]:
    """The namespaces of the container that are not the caller's, which are the keeper's."""
    ours = proc.namespaces("self")
    return {name for name, inode in proc.namespaces(pid).items() if ours.get(name) != inode}


def _places(cgroups: Mapping[str, str]) -> dict[str, int]:
    """Descriptors by which the keeper places the process in the container's cgroups."""
    fds: dict[str, int] = {}
    for hierarchy, directory in cgroups.items():
        leaf = os.path.join(directory, LEAF)
        if os.path.isdir(leaf):
            fds["into"] = os.open(leaf, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            fds[PLACE + hierarchy] = os.open(os.path.join(directory, "tasks"), os.O_WRONLY | os.O_CLOEXEC)
    return fds
