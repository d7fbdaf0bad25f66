"""Which mounts of a container count as taken away."""

from __future__ import annotations

from reconciler.runtime.isolators.filesystem_mounts import lost, seen
from reconciler.runtime.kernel.mountinfo import parse

ROOT = "20 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"
OURS = "21 20 0:41 / /mnt rw - tmpfs tmpfs rw\n"
HOSTS = "22 20 0:42 / /media rw master:7 - tmpfs tmpfs rw\n"
OVER = "23 21 0:43 / /mnt rw - tmpfs tmpfs rw\n"


def test_what_does_not_propagate_and_is_gone_is_lost() -> None:
    assert lost(seen(parse(ROOT + OURS + HOSTS)), seen(parse(ROOT))) == ["/mnt"]


def test_what_is_mounted_over_or_beside_takes_nothing_away() -> None:
    assert lost(seen(parse(ROOT + OURS)), seen(parse(ROOT + OURS + OVER + HOSTS))) == []


def test_of_two_mounts_at_one_place_each_counts() -> None:
    assert lost(seen(parse(ROOT + OURS + OURS)), seen(parse(ROOT + OURS))) == ["/mnt"]


def test_what_the_host_had_too_may_go_with_the_hosts() -> None:
    copied = seen(parse(ROOT + OURS + OVER), parse(ROOT + OVER))
    assert lost(copied, seen(parse(ROOT + OURS))) == []
    assert lost(copied, seen(parse(ROOT + OVER))) == ["/mnt"]


def test_another_root_is_another_view() -> None:
    assert lost(seen(parse(ROOT + OURS)), seen(parse(ROOT.replace("20 1", "30 1", 1)))) == []
