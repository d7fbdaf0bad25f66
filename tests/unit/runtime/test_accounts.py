"""Who runs in a root file system, by that file system's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import Terminal
from reconciler.runtime.provisioner import accounts

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# comment:x:7:7::/:/bin/sh
web:x:1000:1001::/home/web:/bin/sh
short:x:1002
homeless:x:1003:1003
relative:x:1004:1004::home:/bin/sh
huge:x:4294967296:5::/:/bin/sh
minus:x:-1:5::/:/bin/sh
odd:x:1005:0x0::/:/bin/sh
web:x:0:0::/second:/bin/sh
2147483648:x:0:0::/root:/bin/sh
"""
GROUP = "root:x:0:root\nwebs:x:1001:\nextra:x:2000:other,web\nagain:x:2000:web\nbad:x:-5:web\nshort:x\n"


def ids(user: str | None) -> tuple[int, int, list[int], str]:
    found = accounts.resolve(user, PASSWD, GROUP)
    return found.uid, found.gid, found.groups, found.home


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (None, (0, 0, [0], "/root")),
        ("root", (0, 0, [0], "/root")),
        ("web", (1000, 1001, [1001, 2000], "/home/web")),
        ("1000", (1000, 1001, [1001, 2000], "/home/web")),
        ("1000:5", (1000, 5, [5], "/home/web")),
        ("homeless", (1003, 1003, [1003], "/")),
        ("relative", (1004, 1004, [1004], "/")),
        ("7777", (7777, 7777, [7777], "/")),
        ("2147483648", (2147483648, 2147483648, [2147483648], "/")),
        ("4294967294:4294967294", (4294967294, 4294967294, [4294967294], "/")),
    ],
)
def test_a_user_is_whom_the_roots_own_files_say(user: str | None, expected: tuple[int, int, list[int], str]) -> None:
    assert ids(user) == expected


def test_a_uid_that_an_image_does_not_know_is_in_roots_group_as_on_an_engine() -> None:
    for user, gid in (("7777", 0), ("1000", 1001), ("7777:5", 5), ("homeless", 1003)):
        assert accounts.resolve(user, PASSWD, GROUP, accounts.IN_IMAGES).gid == gid


OUT_OF_RANGE = ("4294967295", "4294967296", "99999999999", "-1", "0x0", "\uff11", "0:4294967295")
MALFORMED = ("1000:", ":0", "", "root\n", "1:web", "# comment")
WITHOUT_USABLE_ENTRY = ("nobody", "short", "huge", "minus", "odd")


@pytest.mark.parametrize("user", [*OUT_OF_RANGE, *MALFORMED, *WITHOUT_USABLE_ENTRY])
def test_whoever_else_is_nobody_and_never_root(user: str) -> None:
    with pytest.raises(Terminal, match=r"spec\.user"):
        ids(user)


def test_a_root_without_the_files_has_numbers_only(tmp_path: Path) -> None:
    assert accounts.account(tmp_path, "12:34").groups == [34]
    assert accounts.account(tmp_path, None).home == "/"
    with pytest.raises(Terminal, match="'root' is not in the /etc/passwd"):
        accounts.account(tmp_path, "root")


def test_the_hosts_files_are_never_read_by_way_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").symlink_to("/etc/passwd-of-the-host/../passwd")
    with pytest.raises(Terminal, match="is not in the"):
        accounts.account(tmp_path, "root")
