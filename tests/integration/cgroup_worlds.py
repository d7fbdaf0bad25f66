"""Cgroup trees of a test's own, on this host's hierarchies, and processes placed in them.

Each tree has an owner id of its own; when the test ends everything in it is killed, and a cgroup that
is left fails the test.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.runtime.kernel import cgroups
from reconciler.runtime.kernel.cgroups import CgroupMap
from reconciler.runtime.launcher.cgroup_tree import DEFAULT_CONTROLLERS, CgroupTree
from tests.processes import PATIENCE

ROOT = f"reconciler-tests-{os.getpid()}"


@contextmanager
def tree_on(host: CgroupMap, controllers: frozenset[str] = DEFAULT_CONTROLLERS) -> Iterator[CgroupTree]:
    tree = CgroupTree(host, ROOT, f"t{secrets.token_hex(4)}", controllers)
    try:
        yield tree
    finally:
        for name in sorted(tree.list()):
            tree.kill(name)
            tree.remove(name, timeout=10)
        tree.remove_roots()
        left = [root for root in tree.roots() if Path(root).exists()]
        assert not left, f"cgroups are left: {left}"


def where(tree: CgroupTree, name: str, controller: str) -> str:
    """The container's cgroup in the hierarchy that has this controller."""
    hierarchy = tree.map.hierarchy_of(controller)
    assert hierarchy is not None
    return tree.paths(name)[hierarchy.name]


def start(tree: CgroupTree, name: str, script: str) -> subprocess.Popen[bytes]:
    """Run a shell script whose shell sits in the container's cgroups before its first line."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"read go\n{script}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for directory in tree.process_dirs(name).values():
        cgroups.write(directory, "cgroup.procs", process.pid)
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()
    return process


def finish(process: subprocess.Popen[bytes], within: float = 20) -> int:
    """Its exit code, its pipes closed."""
    code = process.wait(within * PATIENCE)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    return code


def until(condition: Callable[[], bool], what: str, within: float = 10) -> None:
    deadline = time.monotonic() + within * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.002)
