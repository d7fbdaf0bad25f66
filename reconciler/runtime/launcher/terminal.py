"""The terminal of a payload: made inside the container, handed out by its master, made controlling at the exec.

    child: step `terminal` ──master over the `console` socket──▶ keeper (its pump serves it) or the caller of `exec`
           0, 1, 2 = slave ▸ … ▸ a session of the payload's own ▸ TIOCSCTTY ▸ exec

A payload with a terminal never gets one of the host's or of an operator: what it could push into it (TIOCSTI) it would
push into somebody's shell. Standard library only: the child imports this.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from reconciler.runtime.kernel import terminals
from reconciler.runtime.kernel.terminals import Size

TERM = "xterm"
CONSOLE = "console"

# "pump" in a launch plan: how the container's streams are led through a pump; absent: straight into its logs
TTY = "tty"
PIPES = "pipes"


def step(size: Size, uid: int | None) -> dict[str, Any]:
    """The step that gives the payload its terminal. uid: who shall own it; None: whoever the child is."""
    made: dict[str, Any] = {"op": "terminal", "rows": size.rows, "columns": size.columns}
    return made if uid is None else {**made, "uid": uid}


def perform(given: Mapping[str, Any], fds: dict[str, int]) -> None:
    """Carry that step out. The child keeps the slave as its standard streams and nothing of the master."""
    master, slave = terminals.open_pair(Size(given["rows"], given["columns"]))
    try:
        if "uid" in given and given["uid"] != os.geteuid():
            os.fchown(slave, given["uid"], -1)
        for number in range(3):
            os.dup2(slave, number)
        with socket.socket(fileno=fds.pop(CONSOLE)) as console:
            socket.send_fds(console, [b"t"], [master])
    finally:
        os.close(slave)
        os.close(master)


def received(console: socket.socket) -> int | None:
    """The master that came over the caller's end of the console; None when the child ended without sending one."""
    _, fds, _, _ = socket.recv_fds(console, 1, 1, socket.MSG_CMSG_CLOEXEC)
    return fds[0] if fds else None
