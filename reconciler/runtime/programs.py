"""Programs of others that are told something and are to answer in time. Blocks; the standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence


def converse(
    argv: Sequence[str],
    told: bytes,
    seconds: float,
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    listen: bool = True,
) -> subprocess.CompletedProcess[bytes]:
    """Its exit code, its output if we `listen`, and what it complains of. It leads a session of its own: one that is
    not done in time is killed with all it started. Raises subprocess.TimeoutExpired, and OSError for one that cannot
    be run."""
    with subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if listen else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(told, timeout=seconds)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out or b"", err)
