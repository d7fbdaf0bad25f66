"""The file of networks: what it says, and what is wrong with it and where."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from reconciler.errors import ReconcilerError
from reconciler.runtime.network import definitions
from reconciler.runtime.network.definitions import BUILT_IN, Definition
from reconciler.spec import networks


def test_a_network_is_what_the_file_says_and_the_built_in_one_may_be_described(tmp_path: Path) -> None:
    path = tmp_path / "networks.yaml"
    path.write_text(
        "networks:\n  back: {subnet: 10.20.0.0/24, subnet6: 'fd00:20::/64', mtu: 1400, internal: true}\n"
        "  bridge: {masquerade: false}\n"
    )
    back = Definition("back", IPv4Network("10.20.0.0/24"), IPv6Network("fd00:20::/64"), 1400, internal=True)
    assert set(definitions.read(str(path))) == {back, Definition(BUILT_IN, masquerade=False)}
    assert definitions.read(None) == (Definition(BUILT_IN),)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "networks: {}\n"])
def test_a_file_may_say_nothing(text: str, tmp_path: Path) -> None:
    path = tmp_path / "networks.yaml"
    path.write_text(text)
    assert definitions.read(str(path)) == (Definition(BUILT_IN),)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "networks: {back: {subnet: 10.20.0.1/24}}",
            "1:19: networks.back.subnet: 10.20.0.1/24 is one address of a range",
        ),
        ("networks: {back: {subnet: 'fd00::/64'}}", "1:19: networks.back.subnet: fd00::/64 is not of IPv4"),
        ("networks: {back: {subnet: 10.0.0.0/8}}", "1:19: networks.back.subnet: a range of IPv4 is from /16 to /29"),
        (
            "networks: {back: {subnet6: 'fd00::/120'}}",
            "1:19: networks.back.subnet6: a range of IPv6 is from /48 to /112",
        ),
        ("networks: {back: {subnet: 127.0.0.0/16}}", "1:19: networks.back.subnet: addresses of 127.0.0.0/16 cannot"),
        ("networks: {back: {subnet: 10.20.0.0}}", "1:19: networks.back.subnet: must be a range of addresses with its"),
        ("networks: {back: {mtu: 600}}", "1:19: networks.back.mtu: an MTU is from 1280 to 65535"),
        ("networks: {back: {mtu: big}}", "1:19: networks.back.mtu: must be a whole number"),
        ("networks: {Back: {}}", '1:12: networks.Back: "Back" is not a name'),
        ("networks: {back: {intern: true}}", '1:19: networks.back.intern: unknown field (did you mean "internal"?)'),
        ("network: {}", "1:1: network: unknown field (did you mean"),
        ("- back", "1:1: must be a map with `networks`"),
        ("networks: {}\n---\nnetworks: {}", "3:1: must be one document"),
        ("networks: {back: {}, back: {}}", "1:22: networks.back: "),
        (
            "networks:\n  back: {subnet: 10.20.0.0/16}\n  front: {subnet: 10.20.4.0/22}\n",
            "3:11: networks.front.subnet: 10.20.4.0/22 overlaps with 10.20.0.0/16 of back",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, error: str) -> None:
    found, errors = networks.load(text.encode(), "networks.yaml")
    assert found == {} and len(errors) == 1
    assert str(errors[0]).startswith(f"networks.yaml:{error}")


def test_a_file_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(ReconcilerError, match="cannot be read: No such file or directory"):
        definitions.read(str(tmp_path / "networks.yaml"))
