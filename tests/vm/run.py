"""Runs the tests marked `vm` on a real kernel with nothing but cgroup v2: `make test-vm`.

    python -m tests.vm.run [pytest arguments]

A Debian kernel is unpacked (not installed) and booted in QEMU by virtme-ng, without KVM, on this machine's own file
system: read-only over 9p, with overlays where programs want to write. Python is some ten times slower in there, so
what waits there must wait by deadline. Needs root on a Debian machine, `qemu-system-x86` and `kmod`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".venv" / "vm"
SECONDS = 1500
_DONE = re.compile(rb"vm-tests-exit=(\d+)")


def kernel() -> Path:
    """The unpacked kernel image, downloaded when it is not there yet."""
    if found := sorted(CACHE.glob("boot/vmlinuz-*")):
        return found[-1]
    depends = _output("apt-cache", "depends", "linux-image-amd64")
    match = re.search(r"Depends: (linux-image-(\S+))", depends)
    if match is None:
        raise SystemExit("no kernel package is known: run apt-get update first")
    package, version = match.groups()
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-qq", package], cwd=CACHE, check=True)
    (archive,) = CACHE.glob(f"{package}_*.deb")
    subprocess.run(["dpkg", "-x", archive, CACHE], check=True)
    subprocess.run(["depmod", "-b", CACHE, version], check=True)
    archive.unlink()
    return CACHE / "boot" / f"vmlinuz-{version}"


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def inside(arguments: list[str]) -> str:
    """The shell line that runs in the machine; its last line of output gives the exit code."""
    pytest = [sys.executable, "-m", "pytest", "-m", "vm", "-p", "no:cacheprovider", "--color=no"]
    line = shlex.join([*pytest, "--basetemp=/run/vm-tests", "-o", "timeout=600", *arguments])
    environment = "RECONCILER_TEST_PATIENCE=10 PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8"
    return f"cd {shlex.quote(str(CHECKOUT))} && {environment} {line}; echo vm-tests-exit=$?"


def main(arguments: list[str]) -> int:
    vng = [str(Path(sys.executable).with_name("vng")), "--run", str(kernel())]
    options = ["--disable-kvm", "--force-9p", "--verbose", "--memory", "3G", "--cpus", "2"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    machine = subprocess.Popen(
        [*vng, *options, "--", inside(arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PATH": path},
    )
    seen = b""
    assert machine.stdout is not None
    for line in machine.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.flush()
        seen = line if _DONE.search(line) else seen
    machine.wait(SECONDS)
    match = _DONE.search(seen)
    if match is None:
        print("the machine ended before its tests did", file=sys.stderr)
        return 1
    return int(match.group(1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
