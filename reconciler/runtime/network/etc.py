"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a pod: files in RUNTIME/containers/<name>, which its containers see
read-only in place of their own.

Those of pods that run are rewritten where they are, because what is mounted is the file and not its name. Whoever
reads meanwhile sees whole lines: first the old ones, then the new ones, with blank lines after them for as long as the
two differ in length. Files of pods are made from the record alone, so writing them again does no harm.
"""

from __future__ import annotations

import os
from pathlib import Path

HOSTS, HOSTNAME, RESOLVER = "hosts", "hostname", "resolv.conf"
FILES = (HOSTS, HOSTNAME, RESOLVER)
_HOSTS_OWN = Path("/etc")
_BEHIND_STUB = Path("/run/systemd/resolve/resolv.conf")  # what systemd-resolved's stub at 127.0.0.53 asks itself
_MODE = 0o644
_LARGEST = 1 << 20


def create(directory: Path, file: str, text: str) -> None:
    """A new file, so that nobody's mount shows it yet."""
    path = directory / file
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    with os.fdopen(fd, "wb") as made:
        os.fchmod(fd, _MODE)  # whatever the umask is
        made.write(text.encode())


def rewrite(directory: Path, file: str, text: str) -> None:
    """The same file with another content; one that is not there is not made."""
    try:
        fd = os.open(directory / file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(fd, "r+b", buffering=0) as found:
        data, old = text.encode(), os.pread(fd, _LARGEST, 0)
        if data == old:
            return
        if len(data) > len(old):
            os.pwrite(fd, b"\n" * (len(data) - len(old)), len(old))
        os.pwrite(fd, data.ljust(len(old), b"\n"), 0)
        found.truncate(len(data))


def remove(directory: Path) -> None:
    for file in FILES:
        (directory / file).unlink(missing_ok=True)


def of_the_host(file: str) -> str:
    """Empty when there is none."""
    return _text(_HOSTS_OWN / file)


def resolvers_of_the_host() -> list[str]:
    """Where they are written, the most used first."""
    return [text for path in (_HOSTS_OWN / RESOLVER, _BEHIND_STUB) if (text := _text(path))]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode(errors="replace")
    except OSError:
        return ""
