"""How long from a spec's rename into the directory to its payload's first act, through the command line alone.

It includes the start of /bin/sh. Two series: a file just renamed in; and the same straight after another was renamed
out, which some file watchers answer by holding events back. For scale, the same line written by a process that was
merely spawned, and by one in namespaces of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import table
from tests.bench.agent import Bench
from tests.bench.bell import PATIENCE, Bell
from tests.bench.table import Series

NAMESPACES = ["unshare", "--fork", "--pid", "--mount", "--ipc", "--cgroup", "--"]


def drop(bench: Bench, bell: Bell, name: str, leaving: str | None = None) -> float:
    """Milliseconds from the rename to the payload; `leaving` is renamed out just before."""
    file = bench.write(name, {"shell": bell.shell(name), "restartPolicy": "Never"})
    if leaving is not None:
        (bench.specs / f"{leaving}.yaml").rename(bench.aside / leaving)
    start = time.monotonic_ns()
    bench.drop(file)
    took = (bell.wait([name]) - start) / 1e6
    settle = bench.argv("wait", name, "--for", "completed", "--timeout", f"{PATIENCE:g}s")
    subprocess.run(settle, timeout=2 * PATIENCE, check=True, stdout=subprocess.DEVNULL)
    return took


def spawn(bell: Bell, name: str, prefix: Sequence[str] = ()) -> float:
    """Milliseconds from spawning the same shell, without us, to its first act."""
    start = time.monotonic_ns()
    process = subprocess.Popen([*prefix, "/bin/sh", "-c", bell.shell(name)])
    took = (bell.wait([name]) - start) / 1e6
    process.wait(PATIENCE)
    return took


def measure(base: Path, count: int) -> None:
    bell, bench = Bell(base / "bell"), Bench(base / "agent")
    table.heading("rename of a spec to payload, milliseconds", "n", "min", "p50", "p95", "to spawn")

    def series(name: str, once: Callable[[int], float], floor: Series | None = None) -> Series:
        found = Series(name, tuple(once(number) for number in range(count)))
        table.show(found, floor)
        return found

    try:
        plain = series("spawn: /bin/sh, nothing else", lambda number: spawn(bell, f"plain-{number}"))
        if shutil.which(NAMESPACES[0]):
            series("spawn: unshare(1) and /bin/sh", lambda number: spawn(bell, f"ns-{number}", NAMESPACES), plain)
        with bench.running():
            series("rename in", lambda number: drop(bench, bell, f"in-{number}"), plain)
            series(
                "rename out and in", lambda number: drop(bench, bell, f"after-{number}", leaving=f"in-{number}"), plain
            )
    finally:
        bell.close()
