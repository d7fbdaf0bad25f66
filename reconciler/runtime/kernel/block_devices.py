"""Block devices by path or number, and who shares out their time (sysfs, Documentation/ABI/stable/sysfs-block)."""

from __future__ import annotations

import errno
import os
import re
import stat

_NUMBER = re.compile(r"[0-9]{1,8}:[0-9]{1,8}")


def disk(device: str) -> str:
    """MAJ:MIN of a whole disk, given as that or by its path, links followed. Raises OSError for what is not there,
    ValueError for what is no block device, or a partition: limits and weights are of whole disks."""
    number = device if _NUMBER.fullmatch(device) else _of_path(device)
    place = f"/sys/dev/block/{number}"
    if not os.path.exists(place):
        raise FileNotFoundError(errno.ENOENT, "there is no such block device", device)
    if os.path.exists(f"{place}/partition"):
        whole = os.path.basename(os.path.dirname(os.path.realpath(place)))
        raise ValueError(f"{device} is a partition; the kernel limits whole disks: /dev/{whole}")
    return number


def _of_path(path: str) -> str:
    status = os.stat(path)
    if not stat.S_ISBLK(status.st_mode):
        raise ValueError(f"{path} is no block device")
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def scheduler(number: str) -> str:
    """Of that disk, such as bfq or none; "" for one that has no choice."""
    return _chosen(f"/sys/dev/block/{number}/queue/scheduler")


def scheduled_by(name: str) -> bool:
    """Whether any disk here is."""
    with os.scandir("/sys/block") as entries:
        return any(_chosen(f"{entry.path}/queue/scheduler") == name for entry in entries)


def _chosen(file: str) -> str:
    try:
        with open(file, encoding="ascii") as opened:
            found = re.search(r"\[(\S+)\]", opened.read())
    except OSError:
        return ""
    return found[1] if found else ""
