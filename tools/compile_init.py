"""Compiles the static init of reconciler/runtime/launcher/init for this machine; the build hook (hatch_build.py) does.

python3 tools/compile_init.py TARGET
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[1] / "reconciler" / "runtime" / "launcher" / "init"
SOURCE = DIRECTORY / "init.c"
TARGET = DIRECTORY / "static-init"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = (
    *("-std=gnu11", "-Os", "-Wall", "-Wextra", "-ffreestanding", "-fno-stack-protector", "-fno-pie"),
    *("-fno-asynchronous-unwind-tables", "-fno-tree-loop-distribute-patterns"),  # no tables, no calls of memset
    *("-nostdlib", "-static", "-no-pie", "-s", "-Wl,--build-id=none", "-Wl,-z,noexecstack"),
    "-Wl,-z,noseparate-code",  # text and constants on one page
)


def compile_init(target: Path = TARGET) -> None:
    """Raises OSError that says why it cannot be had here."""
    named = os.environ.get("CC")
    compiler = named or next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise OSError(f"no C compiler was found ({', '.join(COMPILERS)})")
    made = target.with_name(f"{target.name}.new")
    command = [*compiler.split(), *FLAGS, "-o", str(made), str(SOURCE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        said = result.stderr.strip().splitlines() or [f"{compiler} ended with {result.returncode}"]
        raise OSError(next((line for line in said if "error" in line), said[-1]))
    made.replace(target)


if __name__ == "__main__":
    compile_init(Path(sys.argv[1]))
