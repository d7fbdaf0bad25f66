"""Runs the tests marked `vm` on a real kernel with nothing but cgroup v2: `make test-vm`.

    python -m tests.vm.run [pytest arguments]

A Debian kernel is unpacked (not installed) and booted in QEMU by virtme-ng, without KVM, on this machine's own file
system: read-only over 9p, with overlays where programs want to write. Python is some ten times slower in there, so
what waits there must wait by deadline; and since it is the processor that limits, there is one such machine for each
of this one's, and each is given some of the test files. Needs root on a Debian machine, `qemu-system-x86` and `kmod`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".venv" / "vm"
SECONDS = 1500
# neither 9p nor a tmpfs of this kernel can be id-mapped
_DISK = (
    "modprobe -aq loop ext4 bfq; mkdir /run/vm && truncate -s 1G /run/vm.img && mkfs.ext4 -q /run/vm.img"
    " && mount -t ext4 -o loop /run/vm.img /run/vm && chmod 1777 /run/vm"
)
# a test that launches containers takes about so many times as long as one that does not
_LAUNCHES, _LAUNCH = re.compile("/(runtime|rootfs)/"), 20
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


def shares(arguments: list[str], machines: int) -> list[list[str]]:
    """What pytest is told in each machine: the files with a test marked `vm`, about as much work for each machine.

    A file is never split: to import one in there takes as long as a test. What is imported here to count them is
    compiled by that, for the machines, too.
    """
    pytest = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-m", "vm", "-k", "not posix"]
    compiling = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    command = [*pytest, *(arguments or ["tests"])]
    found = subprocess.run(command, cwd=CHECKOUT, env=compiling, capture_output=True, text=True)
    tests = Counter(dict(re.findall(r"^(\S+\.py): (\d+)$", found.stdout, re.MULTILINE)))
    if not tests:
        raise SystemExit(f"no test is marked vm there:\n{found.stdout}{found.stderr}")
    if arguments:
        return [arguments]
    dealt: list[list[str]] = [[] for _ in range(machines)]
    work = {path: int(count) * (_LAUNCH if _LAUNCHES.search(path) else 1) for path, count in tests.items()}
    loads = [0] * machines
    for path in sorted(work, key=lambda path: -work[path]):
        least = loads.index(min(loads))
        dealt[least].append(path)
        loads[least] += work[path]
    return [share for share in dealt if share]


def inside(arguments: list[str]) -> str:
    """The shell line that runs in the machine; its last line of output gives the exit code."""
    pytest = [sys.executable, "-m", "pytest", "-v", "-m", "vm", "-k", "not posix", "--color=no"]
    pytest += [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "xdist")]
    line = shlex.join([*pytest, "--basetemp=/run/vm/tests", "-o", "timeout=600", *arguments])
    environment = "TMPDIR=/run/vm RECONCILER_TEST_PATIENCE=10 PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8"
    # the console is not emptied when the machine goes down: it has to be given time
    return f"{_DISK} && cd {shlex.quote(str(CHECKOUT))} && {environment} {line}; echo vm-tests-exit=$?; sleep 5"


def main(arguments: list[str]) -> int:
    image = kernel()
    lots = shares(arguments, len(os.sched_getaffinity(0)))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # left in this order: who watches a machine sees it end
    with ThreadPoolExecutor(len(lots)) as threads, contextlib.ExitStack() as stack:
        machines = [stack.enter_context(_booted(image, lot)) for lot in lots]
        clock = threading.Timer(SECONDS, lambda: [_end(machine) for machine in machines])
        clock.start()
        stack.callback(clock.cancel)
        codes = list(threads.map(_watch, itertools.count(1), machines))
    if None in codes:
        print(f"a machine ended before its tests did; it has {SECONDS} s", file=sys.stderr)
    return max(1 if code is None else code for code in codes)


@contextlib.contextmanager
def _booted(image: Path, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    vng = [str(Path(sys.executable).with_name("vng")), "--run", str(image)]
    options = ["--disable-kvm", "--force-9p", "--verbose", "--memory", "3G", "--cpus", "2"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    machine = subprocess.Popen(
        [*vng, *options, "--", inside(arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # where vng puts what the console says
        start_new_session=True,
        env={**os.environ, "PATH": path},
    )
    try:
        yield machine
    finally:
        _end(machine)
        machine.wait()


def _watch(number: int, machine: subprocess.Popen[bytes]) -> int | None:
    """Pass on what it prints, and when, in seconds; the exit code of its tests, None when they did not end."""
    code, begun = None, time.monotonic()
    assert machine.stdout is not None
    for line in machine.stdout:
        sys.stdout.buffer.write(b"%d|%4.0f| %b" % (number, time.monotonic() - begun, line))
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
