"""A command that an ordinary user can run although this checkout or its interpreter is out of reach.

Root's interpreter and checkout often lie in directories of mode 0700. Then a second virtual
environment is made from the first reachable Python of the same minor version; it borrows the
packages of this one by a .pth file, copied first when they cannot be reached either.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import pydantic

from tests import processes
from tests.e2e.world import CHECKOUT

NOBODY = 65534


def reachable(path: Path) -> bool:
    """Whether a user with no rights of its own gets to it."""
    whole = path.resolve()
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in whole.parents) and bool(
        whole.stat().st_mode & stat.S_IROTH
    )


def interpreter() -> Path:
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.executable).resolve(), *(Path(place, minor) for place in ("/usr/bin", "/usr/local/bin"))]
    for candidate in candidates:
        if candidate.exists() and reachable(candidate):
            return candidate
    raise FileNotFoundError(f"no {minor} that an ordinary user can reach among {candidates}")


def make_command(base: Path) -> Path:
    """`base`: an empty directory that everybody may enter. Returns the command."""
    made = processes.run([str(interpreter()), "-m", "venv", "--without-pip", str(base / "venv")])
    if made.returncode:
        raise OSError(f"no virtual environment for an ordinary user: {made.stderr}")
    packages = Path(pydantic.__file__).parents[1]
    checkout = CHECKOUT
    if not reachable(packages) or not reachable(checkout / "reconciler"):
        packages = Path(shutil.copytree(packages, base / "packages", symlinks=True, ignore=_heavy))
        shutil.copytree(checkout / "reconciler", base / "checkout" / "reconciler")
        checkout = base / "checkout"
    site = base / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "borrowed.pth").write_text(f"{packages}\n{checkout}\n")
    command = base / "venv" / "bin" / "reconciler"
    command.write_text(
        f"#!{base}/venv/bin/python\nimport sys\nfrom reconciler.cli.main import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    for directory, _, _ in os.walk(base):
        Path(directory).chmod(0o755)
    return command


def _heavy(_: str, names: list[str]) -> list[str]:
    """Development tools, which the command never imports, and lists of this checkout's own path."""
    tools = (
        "mypy",
        "ruff",
        "pip",
        "pytest",
        "_pytest",
        "hypothesis",
        "setuptools",
        "__pycache__",
        "grimp",
        "importlinter",
    )
    return [name for name in names if name.startswith(tools) or name.endswith(".pth")]
