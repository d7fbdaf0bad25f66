"""Isolator `disk/du`: the disk space that a container's sandbox takes, looked at every 15 s, and its limit.

What is measured is what the files in the sandbox take on the disk, as du(1) counts it: a link is not followed, another
file system below is left out, and volumes, which are mounted inside the container alone, do not show. A nested
container's sandbox lies in its parent's and counts for both, each against its own limit. A run over its limit is
ended, or with `enforce: false` only reported. After Mesos's isolator of that name and --enforce_container_disk_quota,
which leaves nested containers out.

`du` is a process of its own, which can be killed; the sandbox is opened beneath the top-level one without following a
link, because containers can change what lies between.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from reconciler.errors import Retryable
from reconciler.runtime import durable
from reconciler.runtime.containerizer import ContainerConfig, Usage
from reconciler.runtime.isolators import options, remembering
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, Limitation, PassiveIsolator, Support
from reconciler.runtime.kernel import rootpaths
from reconciler.spec.quantities import format_size
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec, ResourceAmounts

FIELD = "spec.resources.limits.disk"
_FILE, _USED = "disk-du.json", "disk-du.used"
_SECONDS = 50.0  # for one look


@dataclass(frozen=True, slots=True)
class _State:
    """What a later agent must know; kept for a container that has a limit, or that is to be measured without one."""

    limit: int | None
    enforce: bool = True
    interval: float = 15.0


class DiskIsolator(PassiveIsolator):
    name = "disk/du"
    options = MappingProxyType({"enforce": options.flag, "interval": options.interval})

    def __init__(self, *, limits: bool = True) -> None:
        """limits: `resources.limits.disk` is its business, and not that of `disk/xfs`."""
        self._limits = limits

    def support(self) -> Support:
        return Support() if shutil.which("du") else Support(Level.NOT_HERE, "there is no program du; install coreutils")

    def refuses(self, spec: ContainerSpec) -> list[str]:
        if spec.class_ == "debug" and spec.resources.limits.disk is not None:
            return [f"{FIELD}: a container of class debug has no sandbox of its own, its parent's is used"]
        return []

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        limit = config.spec.resources.limits.disk if self._limits else None
        if limit is not None or self.name in config.spec.isolators:
            _write(context, _State(limit, **options.read(config.spec, self)))
        return None

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        """In force from the next look: a limit below what is used is what it is there for."""
        state = _read(context) or _State(None)
        if self._limits and state.limit != limits.disk:
            _write(context, replace(state, limit=limits.disk))

    def usage(self, context: Context) -> Usage:
        """As of the last look."""
        state = _read(context)
        if state is None:
            return {}
        try:
            used = int((context.runtime_dir / _USED).read_bytes())
        except FileNotFoundError:
            used = None
        return {"disk_bytes": used, "disk_limit_bytes": state.limit}

    def every(self, context: Context) -> float | None:
        state = _read(context)
        return state.interval if state is not None else None

    def watch(self, context: Context) -> Limitation | None:
        if context.sandbox is None:
            return None
        used, state = measure(*context.sandbox), _read(context)
        durable.replace(context.runtime_dir / _USED, str(used).encode(), sync=False)
        if state is None or state.limit is None or used <= state.limit:
            return None
        limit = format_size(state.limit)
        message = f"its sandbox takes {format_size(used)} of disk, more than resources.limits.disk: {limit}"
        message += "" if state.enforce else " (reported only)"
        return Limitation(Reason.DISK_LIMIT_EXCEEDED, message, ends=state.enforce)


def measure(top: str, beneath: str) -> int:
    """Bytes that all below takes on its disk. What vanishes meanwhile is not counted. Raises OSError, or Retryable when
    it takes too long."""
    with rootpaths.opened(top) as root:
        fd = rootpaths.existing(root, beneath or ".", links=False)
        try:
            found = subprocess.run(
                ["du", "-s", "-k", "-x", "."],
                cwd=f"/proc/{os.getpid()}/fd/{fd}",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )
        except subprocess.TimeoutExpired:
            raise Retryable(f"du was not done with {top}/{beneath} within {_SECONDS:.0f} s") from None
        finally:
            os.close(fd)
    blocks = found.stdout.split(b"\t")[0]
    if not blocks.isdigit():
        raise Retryable(f"du of {top}/{beneath}: {found.stderr.decode(errors='replace').strip() or 'no answer'}")
    return int(blocks) * 1024


def _read(context: Context) -> _State | None:
    return remembering.read(context.runtime_dir / _FILE, _State)


def _write(context: Context, state: _State) -> None:
    remembering.write(context.runtime_dir / _FILE, state)
