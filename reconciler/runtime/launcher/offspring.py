"""Processes of the keeper's own code: forked in a moment, sharing its memory, with none of its descriptors.

Standard library only.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from typing import NoReturn

from reconciler.runtime.kernel import syscalls


def begin(title: tuple[int, int], kind: str, name: str, keep: Collection[int], body: Callable[[], object]) -> int:
    """The pid of a child that carries `body` out, in a session of its own, and ends. title: the keeper's argument area;
    kind: the first word of its title, and its name in `ps`; keep: the descriptors it has. Raises OSError."""
    pid, pidfd = syscalls.clone3(0, exit_signal=signal.SIGCHLD)
    if pid == 0:
        _become(title, kind, name, keep, body)
    os.close(pidfd)
    return pid


def _become(
    title: tuple[int, int], kind: str, name: str, keep: Collection[int], body: Callable[[], object]
) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        syscalls.close_all_but({0, 1, 2, *keep})
        os.setsid()
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        syscalls.set_title(*title, f"{kind} {name}")
        syscalls.set_process_name(kind)
        body()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - the last frame of a forked process: reported, then gone
        say(f"{kind} {name}: {type(error).__name__}: {error}")
    finally:
        os._exit(1)


def say(sentence: str) -> None:
    """In the keeper's log."""
    os.write(2, f"{sentence}\n".encode())
