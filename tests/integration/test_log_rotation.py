"""Rotation of files that somebody else appends to, on a real file system: nothing is lost, nothing grows for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.runtime.mesos.rotation import Bounds, generations, rotate

LINES = 200_000  # so many that the rotator has its turn on a busy machine too
WRITER = f"""
import os
fd = os.open("stdout", os.O_WRONLY | os.O_APPEND)
for number in range({LINES}):
    os.write(fd, b"line %07d of many\\n" % number)
"""


def _text(log: Path) -> bytes:
    return b"".join(each.read_bytes().lstrip(b"\0") for each in generations(log))


@pytest.fixture(params=["disk", "tmpfs"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    directory = tmp_path
    if request.param == "tmpfs":
        directory = Path("/dev/shm") / tmp_path.name
        directory.mkdir()
        request.addfinalizer(lambda: subprocess.run(["rm", "-rf", str(directory)], check=True))
    path = directory / "stdout"
    path.touch()
    return path


def test_no_line_is_lost_while_a_writer_goes_on(log: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER], cwd=log.parent)
    rotations = 0
    while writer.poll() is None:
        rotations += rotate(log, Bounds(size=64 * 1024, files=1000))
    assert rotations > 3
    assert _text(log) == b"".join(b"line %07d of many\n" % number for number in range(LINES))


def test_only_so_many_files_are_kept_and_the_newest_output_is_there(log: Path) -> None:
    for round_ in range(6):
        with log.open("ab") as file:
            file.write(b"%d" % round_ * 20_000)
        rotate(log, Bounds(size=8192, files=3))
    assert [each.name for each in generations(log)] == ["stdout.2", "stdout.1", "stdout"]
    assert _text(log).endswith(b"5" * 20_000)


def test_a_file_below_its_limit_is_left_alone(log: Path) -> None:
    log.write_bytes(b"x" * 5000)
    assert not rotate(log, Bounds(size=8192, files=3))
    assert generations(log) == [log]


def test_a_link_in_place_of_a_log_is_not_followed(log: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"v" * 100_000)
    log.unlink()
    log.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        rotate(log, Bounds(size=4096, files=3))
    assert victim.stat().st_size == 100_000
