"""How long from a spec's rename into the directory to its payload's first act, through the command line alone.

The payload's first act is a line into a FIFO that this process reads, so the figure holds on any file system
and to well below a millisecond (a file's timestamp is only as fine as a timer tick). It includes the start of /bin/sh.
Two series: a file just renamed in; and the same straight after another was renamed out, which some file watchers
answer by holding events back. For scale, the same line written by a process that was merely spawned, and by one
in namespaces of its own. Prints figures and judges nothing: `python -m tests.bench.latency`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

COMMAND = Path(__file__).parents[2] / ".venv" / "bin" / "reconciler"
PATIENCE = 30.0  # seconds for anything to happen at all
NAMESPACES = ["unshare", "--fork", "--pid", "--mount", "--ipc", "--cgroup", "--"]


class Bell:
    """A FIFO that payloads write their name into."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # read-write: a writer's open never blocks

    def shell(self, name: str) -> str:
        return f"echo {name} >{self.path}"

    def wait(self, name: str) -> int:
        """time.monotonic_ns() when that name came."""
        deadline = time.monotonic() + PATIENCE
        heard = b""
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self._fd], [], [], PATIENCE)
            at = time.monotonic_ns()
            if ready:
                heard += os.read(self._fd, 4096)
            if name.encode() in heard.split(b"\n"):
                return at
        raise TimeoutError(f"the payload of {name} never ran within {PATIENCE:g} s")

    def close(self) -> None:
        os.close(self._fd)


class Bench:
    """A private root, runtime and spec directory, with an agent running on them."""

    def __init__(self, base: Path, command: Path) -> None:
        self.base, self.command = base, command
        self.specs, self.aside = base / "specs", base / "aside"
        for directory in (self.specs, self.aside):
            directory.mkdir()
        self.bell = Bell(base / "bell")
        self.log = base / "agent.log"

    def argv(self, *words: str) -> list[str]:
        verb, *rest = words
        where = ["--root", str(self.base / "root"), "--runtime-dir", str(self.base / "run")]
        return [str(self.command), verb, *where, *rest]

    @contextlib.contextmanager
    def agent(self) -> Iterator[None]:
        """Ready when entered; when left it is stopped and everything destroyed."""
        with self.log.open("w") as log:
            process = subprocess.Popen(
                self.argv("run", str(self.specs)), stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
            )
        assert process.stdout is not None
        try:
            if not any(line.strip() == b"ready" for line in process.stdout):
                raise ChildProcessError(f"the agent ended before it was ready: {self.log.read_text()}")
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)
            process.stdout.close()
            subprocess.run(self.argv("destroy", "--all"), timeout=PATIENCE, check=False, stdout=subprocess.DEVNULL)

    def launch(self, name: str, leaving: str | None = None) -> float:
        """Milliseconds from the rename to the payload; `leaving` is renamed out just before."""
        spec = {"shell": self.bell.shell(name), "restartPolicy": "Never"}
        document = {"apiVersion": "reconciler/v1", "kind": "Container", "metadata": {"name": name}, "spec": spec}
        new, target = self.aside / "new", self.specs / f"{name}.yaml"
        new.write_text(json.dumps(document))
        if leaving is not None:
            (self.specs / f"{leaving}.yaml").rename(self.aside / leaving)
        start = time.monotonic_ns()
        new.rename(target)
        took = (self.bell.wait(name) - start) / 1e6
        settle = self.argv("wait", name, "--for", "completed", "--timeout", f"{PATIENCE:g}s")
        subprocess.run(settle, timeout=2 * PATIENCE, check=True, stdout=subprocess.DEVNULL)
        return took

    def spawn(self, name: str, prefix: Sequence[str] = ()) -> float:
        """Milliseconds from spawning the same shell, without us, to its first act."""
        start = time.monotonic_ns()
        process = subprocess.Popen([*prefix, "/bin/sh", "-c", self.bell.shell(name)])
        took = (self.bell.wait(name) - start) / 1e6
        process.wait(PATIENCE)
        return took


def show(title: str, series: Sequence[float], floor: float | None) -> None:
    ordered = sorted(series)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    median = statistics.median(ordered)
    ratio = f"{median / floor:8.1f} x" if floor else " " * 10
    print(f"{title:<42} {len(series):>4} {median:>9.2f} {p95:>9.2f} {ordered[-1]:>9.2f} {ratio}", flush=True)


def measure(bench: Bench, count: int, floors: int) -> None:
    print(f"{'milliseconds':<42} {'n':>4} {'p50':>9} {'p95':>9} {'max':>9}   to spawn")
    plain = [bench.spawn(f"plain-{number}") for number in range(floors)]
    floor = statistics.median(plain)
    show("spawn: /bin/sh, nothing else", plain, None)
    if shutil.which(NAMESPACES[0]) and os.geteuid() == 0:
        show("spawn: unshare(1) and /bin/sh", [bench.spawn(f"ns-{n}", NAMESPACES) for n in range(floors)], floor)
    with bench.agent():
        kinds: dict[str, Callable[[int], float]] = {
            "rename in, to payload": lambda number: bench.launch(f"in-{number}"),
            "rename out and in, to payload": lambda number: bench.launch(f"after-{number}", leaving=f"in-{number}"),
        }
        for title, once in kinds.items():
            show(title, [once(number) for number in range(count)], floor)


def main() -> int:
    parser = argparse.ArgumentParser(description="Latency from a renamed spec to its running payload.")
    parser.add_argument("-n", "--count", type=int, default=40, help="launches per series")
    parser.add_argument("--floors", type=int, default=20, help="plain spawns, for scale")
    parser.add_argument("--base", default="/tmp", help="where the private directories are made")
    parser.add_argument("--command", type=Path, default=COMMAND, help="the reconciler command to measure")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="rcb", dir=options.base))
    bench = Bench(base, options.command)
    try:
        measure(bench, options.count, options.floors)
    except (TimeoutError, ChildProcessError, subprocess.SubprocessError) as error:
        print(f"cannot measure: {error}\nagent's log: {bench.log}", file=sys.stderr)
        return 1
    finally:
        bench.bell.close()
    shutil.rmtree(base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
