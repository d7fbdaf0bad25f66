"""Runs the tests marked `vm` on a real kernel with nothing but cgroup v2: `make test-vm`.

    python -m tests.vm.run [pytest arguments]

A Debian kernel is unpacked (not installed) and booted in QEMU by virtme-ng, without KVM, on this machine's own file
system: read-only over 9p, with overlays where programs want to write. Python is some ten times slower in there, so
what waits there must wait by deadline. Needs root on a Debian machine, `qemu-system-x86` and `kmod`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
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


def marked() -> list[str]:
    """The files with a test marked `vm`: to import every other one in there would take minutes."""
    files = sorted((CHECKOUT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(CHECKOUT)) for path in files if "mark.vm" in path.read_text()]


def inside(arguments: list[str]) -> str:
    """The shell line that runs in the machine; its last line of output gives the exit code."""
    pytest = [sys.executable, "-m", "pytest", "-v", "-m", "vm", "-k", "not posix", "--color=no"]
    pytest += [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "xdist")]
    line = shlex.join([*pytest, "--basetemp=/run/vm-tests", "-o", "timeout=600", *(arguments or marked())])
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
        start_new_session=True,
        env={**os.environ, "PATH": path},
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    clock = threading.Timer(SECONDS, _end, [machine])
    clock.start()
    try:
        code = _watch(machine)
    finally:
        clock.cancel()
        _end(machine)
        machine.wait()
    if code is None:
        print(f"the machine ended before its tests did; it has {SECONDS} s", file=sys.stderr)
        return 1
    return code


def _watch(machine: subprocess.Popen[bytes]) -> int | None:
    """Pass on what it prints; the exit code of its tests, None when they did not come to an end."""
    code = None
    assert machine.stdout is not None
    for line in machine.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.flush()
        if match := _DONE.search(line):
            code = int(match.group(1))
    return code


def _end(machine: subprocess.Popen[bytes]) -> None:
    """vng, its shells and QEMU: they are a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(machine.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
