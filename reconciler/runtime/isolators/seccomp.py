"""Isolator `linux/seccomp`: which system calls the container may make. Its own profile, a given one, or none.

The profile is settled for the capabilities that the container can have and compiled once for each such set; the bytes
are kept in memory and, per container, in RUNTIME/containers/<name>/filter, which its payload and whatever `exec` starts
later read by descriptor. That file goes with the container, and holds for as long as it runs, whatever becomes
of the profile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from reconciler.errors import Retryable, Unsupported
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, PassiveIsolator, Support
from reconciler.runtime.kernel import seccomp
from reconciler.runtime.launcher.credentials import FILTER
from reconciler.runtime.seccomp import compiler, profile
from reconciler.runtime.seccomp.profile import Setting
from reconciler.spec.isolation import Security
from reconciler.states import Reason

DEFAULT = Path(compiler.__file__).with_name("default.json")
_FIELD = "spec.security.seccomp"
_FAILED = Reason.LAUNCH_FAILED
_LARGEST = 1024 * 1024  # of a profile


class SeccompIsolator(PassiveIsolator):
    name = "linux/seccomp"

    def __init__(self, capabilities: Callable[[Security], frozenset[str]]) -> None:
        """capabilities: what a container of this security can have at most."""
        self._capabilities = capabilities

    def support(self) -> Support:
        machine = os.uname().machine
        if machine not in seccomp.MACHINES:
            return Support(Level.NOT_HERE, f"there are no filters for {machine}; specs need seccomp: unconfined")
        return Support()

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        security = config.spec.security
        if security.privileged or security.seccomp == "unconfined":
            return None
        machine, release = os.uname().machine, os.uname().release
        if machine not in seccomp.MACHINES:
            known = ", ".join(seccomp.MACHINES)
            raise Unsupported(f"{_FIELD}: there are filters for {known} only, this is {machine}; use unconfined")
        data = DEFAULT.read_bytes() if security.seccomp == "default" else _read(security.seccomp)
        setting = Setting(machine, _kernel(release), self._capabilities(security))
        try:
            program = compiled(data, setting)
        except ValueError as error:
            raise Retryable(f"{_FIELD}: {security.seccomp} cannot be carried out: {error}", _FAILED) from error
        path = context.runtime_dir / FILTER
        # a file of its own each time: what an earlier launch left may be open yet
        path.unlink(missing_ok=True)
        path.write_bytes(program)
        return LaunchInfo(files={FILTER: str(path)})

    def cleanup(self, context: Context) -> None:
        (context.runtime_dir / FILTER).unlink(missing_ok=True)


@lru_cache(maxsize=64)
def compiled(data: bytes, setting: Setting) -> bytes:
    """What the kernel loads. Raises ValueError."""
    return compiler.compiled(profile.read(data, setting), setting.architecture)


def _read(path: str) -> bytes:
    """What cannot be had now may be put there later."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise Retryable(f"{_FIELD}: {path}: {error.strerror or error}", _FAILED) from error
    if len(data) > _LARGEST:
        raise Retryable(f"{_FIELD}: {path} is larger than {_LARGEST} bytes", _FAILED)
    return data


def _kernel(release: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)
