"""Whether an overlay of id-mapped layers can be had (Linux 5.19): asked of the kernel by a process of its own, because
only one with a single thread may have the user namespace and the mount namespace that it takes.

    agent ─▶ this process ─clone3─▶ its child, which is nothing but a user namespace

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from reconciler.runtime.kernel import mounts, syscalls, userns
from reconciler.runtime.programs import converse

_SECONDS = 30.0
_PACKAGE = Path(__file__).parents[3]
_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from reconciler.runtime.provisioner.mapped_overlay import main; main(sys.argv[2:])"
)
_FIRST, _SIZE = 0x70000000, 65536  # any that are not the host's


def why_none(lowers: Sequence[str], upper: str, work: str) -> str:
    """Of these directories; "" when it can be had. Blocks."""
    try:
        said = converse([sys.executable, "-I", "-S", "-c", _CODE, str(_PACKAGE), upper, work, *lowers], b"", _SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be found out: {error}"
    if said.returncode != 0:
        return f"cannot be found out: {said.stderr.decode(errors='replace').strip()}"
    return said.stdout.decode(errors="replace").strip()


def main(argv: Sequence[str]) -> None:
    upper, work, *lowers = argv
    try:
        with _user_namespace() as ids:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
            with mounts.id_mapped(os.path.commonpath(lowers), ids):
                os.close(mounts.overlay(lowers, upper, work, 0))
    except OSError as error:
        sys.stdout.write(error.strerror or str(error))


@contextlib.contextmanager
def _user_namespace() -> Iterator[int]:
    pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWUSER, exit_signal=signal.SIGCHLD)
    if pid == 0:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pause()
        os._exit(0)
    try:
        userns.write_maps(pid, _FIRST, _SIZE)
        found = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield found
        finally:
            os.close(found)
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)
