"""Isolator `disk/xfs`: the disk space of a sandbox as a project quota of XFS: the write over the limit fails (ENOSPC).

A sandbox with a limit gets a project number of its own, from 5000 to 10000, that nobody in the file system uses. The
number is on the directory itself: nothing else has to remember it, and the sandbox keeps it for its next run. The limit
is in the file system's quota of that number while the container runs. A nested container with a limit has a number of
its own, and then its sandbox does not count for its parent; without one it counts.

Used when `--isolation` names it; `disk/du` then leaves the limit alone. Whoever owns files may give them another
number, but not from within a user namespace (ioctl_xfs_fssetxattr(2)): against attack it needs `user: private`. After
Mesos's isolator of that name.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import ContainerConfig, Usage
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, PassiveIsolator, Support
from reconciler.runtime.kernel import project_quotas, rootpaths

if TYPE_CHECKING:
    from reconciler.spec.model import ResourceAmounts

NUMBERS = range(5000, 10001)


class XfsIsolator(PassiveIsolator):
    name = "disk/xfs"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._choosing = threading.Lock()

    def support(self) -> Support:
        there = next(each for each in (self._root, *self._root.parents) if each.is_dir())
        try:
            why = project_quotas.unavailable(str(there))
        except OSError as error:
            why = f"{there}: {error.strerror}"
        return Support(Level.NOT_HERE, why) if why else Support()

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        self._limit(context, config.spec.resources.limits.disk)
        return None

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        self._limit(context, limits.disk)

    def usage(self, context: Context) -> Usage:
        with _opened(context) as (sandbox, number):
            if number is None:
                return {}
            found = project_quotas.quota(sandbox, number)
            return {"disk_bytes": found.used, "disk_limit_bytes": found.limit}

    def cleanup(self, context: Context) -> None:
        """The number stays on the sandbox, and is free once that is gone."""
        with suppress(FileNotFoundError), _opened(context) as (sandbox, number):
            if number is not None:
                project_quotas.limit(sandbox, number, None)

    def _limit(self, context: Context, limit: int | None) -> None:
        with _opened(context) as (sandbox, number):
            if number is None and limit is not None and sandbox >= 0:
                number = self._number(sandbox)
            if number is not None:
                project_quotas.limit(sandbox, number, limit)

    def _number(self, sandbox: int) -> int:
        """A new one, given to all that is in the sandbox. Raises Retryable."""
        before = project_quotas.project(sandbox)
        with self._choosing:
            for number in NUMBERS:
                if project_quotas.quota(sandbox, number) == project_quotas.Quota(None, 0, 0):
                    project_quotas.assign(sandbox, number)
                    break
            else:
                raise Retryable(f"{self.name}: every project number from {NUMBERS[0]} to {NUMBERS[-1]} is in use")
        project_quotas.assign_all(sandbox, before, number)
        return number


@contextmanager
def _opened(context: Context) -> Iterator[tuple[int, int | None]]:
    """(the sandbox, -1 if it has none of its own; its number, None if that is none of ours or its parent's)."""
    if context.sandbox is None:
        yield -1, None
        return
    top, beneath = context.sandbox
    with _directory(top, beneath) as sandbox:
        number = project_quotas.project(sandbox)
        ours = number in NUMBERS
        if ours and beneath:
            with _directory(top, "/".join(beneath.split("/")[:-2])) as parent:
                ours = project_quotas.project(parent) != number
        yield sandbox, number if ours else None


@contextmanager
def _directory(top: str, beneath: str) -> Iterator[int]:
    """No link is followed that a container may have planted."""
    with rootpaths.opened(top) as root:
        found = rootpaths.existing(root, beneath or ".", links=False)
    with rootpaths.readable(found) as fd:
        yield fd
