"""The one parser of mountinfo: escapes, optional fields, and lines that are none."""

from __future__ import annotations

import pytest

from reconciler.runtime.kernel import mountinfo

PLAIN = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"


def test_every_field_of_the_manual_page_s_example_is_found() -> None:
    (mount,) = mountinfo.parse(PLAIN)
    assert (mount.id, mount.parent, mount.device) == (36, 35, "98:0")
    assert (mount.root, mount.target) == ("/mnt1", "/mnt2")
    assert mount.options == {"rw", "noatime"}
    assert mount.peers == ("master:1",)
    assert (mount.fstype, mount.source) == ("ext3", "/dev/root")
    assert mount.super_options == {"rw", "errors=continue"}


@pytest.mark.parametrize(
    ("peers", "found"),
    [("", ()), ("shared:7 ", ("shared:7",)), ("shared:7 master:2 unbindable ", ("shared:7", "master:2", "unbindable"))],
)
def test_optional_fields_may_be_none_one_or_several(peers: str, found: tuple[str, ...]) -> None:
    (mount,) = mountinfo.parse(f"36 35 98:0 / /mnt rw {peers}- ext3 /dev/root rw\n")
    assert mount.peers == found
    assert mount.fstype == "ext3"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"/a\040b", "/a b"),
        (r"/a\011b", "/a\tb"),
        (r"/a\012b", "/a\nb"),
        (r"/a\134040b", r"/a\040b"),
        (r"/ü\040ö", "/ü ö"),
        ("/plain", "/plain"),
    ],
)
def test_escapes_in_a_path_are_undone(written: str, meant: str) -> None:
    (mount,) = mountinfo.parse(f"36 35 98:0 {written} {written} rw - tmpfs {written} rw\n")
    assert (mount.root, mount.target, mount.source) == (meant, meant, meant)


def test_a_path_with_a_lone_dash_is_no_separator() -> None:
    (mount,) = mountinfo.parse(r"36 35 98:0 / /a\040-\040b rw - tmpfs none rw")
    assert (mount.target, mount.fstype) == ("/a - b", "tmpfs")


def test_a_name_that_is_no_utf8_survives() -> None:
    line = b"36 35 98:0 / /\xff\\040x rw - tmpfs none rw".decode("utf-8", "surrogateescape")
    (mount,) = mountinfo.parse(line)
    assert mount.target.encode("utf-8", "surrogateescape") == b"/\xff x"


def test_the_kernel_s_order_is_kept() -> None:
    text = "1 0 0:1 / / rw - tmpfs a rw\n2 1 0:2 / / rw - tmpfs b rw\n"
    assert [mount.source for mount in mountinfo.parse(text)] == ["a", "b"]


@pytest.mark.parametrize("line", ["nonsense", "36 35 98:0 / /mnt rw ext3 /dev/root rw", "36 35 98:0 / - ext3 x rw"])
def test_what_is_no_line_of_mountinfo_is_refused_with_the_line(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        mountinfo.parse(line)


def test_the_own_mounts_can_be_read() -> None:
    assert "/proc" in {mount.target for mount in mountinfo.read()}
