"""The failure bundle: what whoever has to look at a failed scenario needs, in one directory.

Written before anything is torn down: the transcript, `ps`, the agents' logs, every record and
checkpoint, the cgroup tree and the process tree.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests import processes
from tests.e2e.world import World


def write(world: World, title: str) -> Path:
    """Where it is."""
    place = Path(os.environ.get("RECONCILER_E2E_BUNDLES", Path(tempfile.gettempdir(), "reconciler-e2e")))
    place.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=re.sub(r"\W+", "-", title)[:60] + "-", dir=place))
    with contextlib.suppress(subprocess.TimeoutExpired):
        (directory / "ps.json").write_text(world.reconciler("ps", "-o", "json", timeout=10).stdout)
    with contextlib.suppress(subprocess.TimeoutExpired):
        (directory / "status").write_text(world.reconciler("status", timeout=10).stdout)
    (directory / "transcript").write_text("\n".join(world.transcript) + "\n")
    (directory / "processes").write_text("\n".join(_tree()) + "\n")
    (directory / "cgroups").write_text("\n".join(world.cgroup_paths()) + "\n")
    for tree in (world.root, world.runtime, world.specs):
        _copy(tree, directory / tree.name)
    for log in sorted(world.base.glob("agent*.*")):
        shutil.copy(log, directory)
    return directory


def _tree() -> list[str]:
    return [f"{each.parent} > {each}" for each in processes.below(os.getpid())]


def _copy(tree: Path, to: Path, largest: int = 1 << 20) -> None:
    """Regular files only: a socket cannot be copied, and a pipe would block."""
    for directory, _, names in os.walk(tree):
        for name in names:
            source = Path(directory, name)
            if source.is_file() and not source.is_symlink() and source.stat().st_size <= largest:
                target = to / source.relative_to(tree)
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError):
                    shutil.copyfile(source, target)
