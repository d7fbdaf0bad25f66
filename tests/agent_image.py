"""A small image of this checkout, made of the tests' own interpreter in seconds, where `make image` takes minutes.

Has what the real one has: an init as its entry point, `python3` and `reconciler` on the path. `make test-image` sets
REAL, and has the real one in its place.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests import engine

IMAGE = "reconciler:test"
REAL = "RECONCILER_TEST_REAL_IMAGE"
CHECKOUT = Path(__file__).parents[1]
_CHANGES = (
    'ENTRYPOINT ["catatonit", "--"]',
    "ENV PATH=/usr/bin:/bin PYTHONPATH=/opt LC_ALL=C.UTF-8",
)
_UNUSED = re.compile(
    r"(^|/)(test|tests|pydoc_data|idlelib|tkinter|ensurepip|lib2to3|site-packages|config-[^/]*|_(test|tkinter|sqlite3)[^/]*[.]so|.*opt-[12][.]pyc)$"
)


def missing() -> str:
    """Why it cannot be made here."""
    return "" if shutil.which("catatonit") else "needs catatonit (Debian: catatonit)"


def load(server: engine.Server) -> None:
    if os.environ.get(REAL):
        made = [CHECKOUT / "tools" / "image", Path(sys.executable).with_name("pip"), IMAGE]
        subprocess.run(made, cwd=CHECKOUT, env={**os.environ, "DOCKER_HOST": server.url}, check=True)
        return
    repository, _, tag = IMAGE.partition(":")
    server.api.import_image_from_data(_tree(), repository=repository, tag=tag, changes=list(_CHANGES))


def _tree() -> bytes:
    interpreter, standard = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    needed = sorted(_needed("reconciler"))
    binaries = [interpreter, *(each for each in standard.glob("lib-dynload/*.so") if not _UNUSED.search(str(each)))]
    binaries += [directory / file for directory, file in needed if file.endswith(".so")]
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:
        engine.add_box(tar)
        tar.add(shutil.which("catatonit") or "", "usr/bin/catatonit")
        for path in (interpreter, standard, *_libraries(binaries)):
            tar.add(path.resolve(), str(path), filter=_used)
        engine.add_link(tar, "usr/bin/python3", str(interpreter))
        for directory, file in needed:
            tar.add(directory / file, f"opt/{file}")
        tar.add(CHECKOUT / "reconciler", "opt/reconciler", filter=_used)
        engine.add_text(tar, "usr/bin/reconciler", '#!/bin/sh\nexec python3 -m reconciler.cli.main "$@"\n', 0o755)
    return found.getvalue()


def _used(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _UNUSED.search(entry.name) else entry


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    said = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=True).stdout
    return {Path(found) for found in re.findall(r"(/\S+) \(0x", said)}


def _needed(name: str) -> set[tuple[Path, str]]:
    """(where it is, its path there) of each file of what that distribution requires, and what those do."""
    wanted, seen = [name], set[str]()
    found: set[tuple[Path, str]] = set()
    while wanted:
        one = wanted.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            distribution = importlib.metadata.distribution(one)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform, or another Python
        wanted += [
            re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in distribution.requires or () if "extra ==" not in each
        ]
        if one != name:
            files = [str(each) for each in distribution.files or () if not str(each).startswith("..")]
            found |= {
                (Path(str(distribution.locate_file(""))), each)
                for each in files
                if each.endswith((".py", ".pyc", ".so", ".pem"))
            }
    return found
