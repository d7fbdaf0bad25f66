"""The runtime's worlds, with a root file system to run in: one busybox and nothing else of this host."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runtime.conftest import base, make_world, pytest_pyfunc_call, reaper, world

__all__ = ["base", "make_world", "pytest_pyfunc_call", "reaper", "tree", "world"]

BUSYBOX = "/bin/busybox"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\nnobody:x:4321:4322::/:/bin/sh\n"
GROUP = "root:x:0:\nwebs:x:1001:\nextra:x:2000:web\n"


@pytest.fixture
def outside(base: Path) -> Iterator[Path]:
    """A directory of the host that must stay as it is."""
    made = base / "outside"
    made.mkdir()
    (made / "marker").write_text("untouched")
    yield made
    assert [path.name for path in made.iterdir()] == ["marker"]
    assert (made / "marker").read_text() == "untouched"


@pytest.fixture(scope="session")
def applets() -> list[str]:
    return subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def tree(base: Path, applets: list[str]) -> Path:
    """A root file system without any of the directories that a container's mounts need."""
    made = base / "tree"
    for directory in ("bin", "etc", "tmp", "root"):
        (made / directory).mkdir(parents=True)
    shutil.copy(BUSYBOX, made / "bin" / "busybox")
    for name in applets:
        if name != "busybox":
            (made / "bin" / name).symlink_to("busybox")
    (made / "etc" / "passwd").write_text(PASSWD)
    (made / "etc" / "group").write_text(GROUP)
    return made
