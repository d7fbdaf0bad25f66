"""The static init: two kilobytes of program that take over from the forked interpreter once the payload is forked.

Made from init/init.c when reconciler is installed, by the C compiler that is there (tools/compile_init.py). Where it is
missing, or cannot be executed, the interpreter stays the init: the same, but of some 2 MiB.

It is executed from memory that is sealed against writing, so that nothing inside a container can change what the next
one runs (CVE-2019-5736). Root's is executable by all and readable by nobody: a process of a program that it may not
read is undumpable from its first instruction on (would_dump in fs/exec.c), in the eyes of the host's user namespace,
so that no root in a container reaches it. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import NoReturn

from reconciler.runtime.kernel import syscalls

NAME = "static-init"
BINARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "init", NAME)
ROLE = "init program"  # of its descriptor in a child

_MFD_EXEC = 0x10  # Linux 6.3, like the seal of the mode
_F_SEAL_EXEC = 0x20
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_STREAMS = {0, 1, 2}


def load() -> int:
    """A descriptor of it. Raises OSError: there is none, or this host executes no memory (vm.memfd_noexec)."""
    with open(BINARY, "rb", buffering=0) as file:
        program = file.read()
    sealed = _SEALS | _F_SEAL_EXEC
    try:
        fd = os.memfd_create("init", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd, sealed = os.memfd_create("init", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), _SEALS
    os.write(fd, program)
    os.fchmod(fd, 0o111 if os.geteuid() == 0 else 0o555)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, sealed)
    return fd


def why_not() -> str:
    """Why containers of this installation get an interpreter for an init; empty where they get the static one."""
    try:
        fd = load()
    except FileNotFoundError:
        return (
            "no static one was compiled when reconciler was installed; with gcc and linux-libc-dev there, "
            "`pip install --force-reinstall` compiles it"
        )
    except OSError as error:
        return f"this host lends no executable memory: {error.strerror}"
    try:
        pid = os.posix_spawn(f"/proc/self/fd/{fd}", [NAME], {})  # it ends at once when it is told nothing
    except OSError as error:
        return f"the static one cannot be executed: {error.strerror}"
    finally:
        os.close(fd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"the static one ended with {status} when it was tried out" if status else ""


def execute(fd: int, name: str, payload: int, exit_fd: int, ready: int, *, undumpable: bool) -> NoReturn:
    """Become it. ready: closed once it is as it shall stay. Raises OSError, and nothing but descriptors has changed."""
    syscalls.close_all_but(_STREAMS | {fd, exit_fd, ready})
    told = {"PAYLOAD": payload, "EXIT": exit_fd, "READY": ready, "UNDUMPABLE": int(undumpable)}
    for kept in (exit_fd, ready):
        os.set_inheritable(kept, True)
    os.execve(fd, [f"init {name}"], {key: str(value) for key, value in told.items()})
