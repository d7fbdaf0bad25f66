"""A private root, runtime and spec directory, with an agent running on them: `reconciler run`, as people run it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests import processes
from tests.bench.bell import PATIENCE

COMMAND = Path(__file__).parents[2] / ".venv" / "bin" / "reconciler"
_SLOW = 300.0  # seconds for destroying hundreds of containers


class Bench:
    """pid: the agent's, while it runs."""

    def __init__(self, base: Path) -> None:
        base.mkdir(exist_ok=True)
        self.base = base
        self.specs, self.aside = base / "specs", base / "aside"
        for directory in (self.specs, self.aside):
            directory.mkdir()
        self.log = base / "agent.log"
        self.pid = 0

    def argv(self, *words: str) -> list[str]:
        verb, *rest = words
        where = ["--root", str(self.base / "root"), "--runtime-dir", str(self.base / "run")]
        return [str(COMMAND), verb, *where, *rest]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Ready when entered; when left it is stopped and everything destroyed."""
        with self.log.open("w") as log:
            process = subprocess.Popen(
                self.argv("run", str(self.specs)), stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
            )
        assert process.stdout is not None
        self.pid = process.pid
        try:
            if not any(line.strip() == b"ready" for line in process.stdout):
                raise ChildProcessError(f"the agent ended before it was ready: {self.log.read_text()}")
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)
            process.stdout.close()
            subprocess.run(self.argv("destroy", "--all"), timeout=_SLOW, check=False, stdout=subprocess.DEVNULL)

    def write(self, name: str, spec: Mapping[str, Any]) -> Path:
        """The spec's file, not yet where the agent looks; `drop` puts it there."""
        document = {"apiVersion": "reconciler/v1", "kind": "Container", "metadata": {"name": name}, "spec": spec}
        path = self.aside / f"{name}.yaml"
        path.write_text(json.dumps(document))
        return path

    def drop(self, file: Path) -> None:
        file.rename(self.specs / file.name)

    def keeper(self) -> int:
        """Its pid."""
        for pid in processes.table():
            words = processes.cmdline(pid)
            if "keeper" in words and str(self.base / "run") in words:
                return pid
        raise ChildProcessError(f"no keeper runs for {self.base / 'run'}")
