"""What is read from a CNI configuration directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.network.cni.configuration import NetworkConfig, parse, read

LIST = {"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "ptp"}, {"type": "portmap"}]}


def write(directory: Path, **files: Any) -> None:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / name.replace("__", ".")).write_text(text)


def test_a_list_and_a_single_plugin_are_networks_by_the_order_of_their_files(tmp_path: Path) -> None:
    other = {"cniVersion": "0.4.0", "name": "lab", "type": "macvlan"}
    single = {"cniVersion": "0.3.1", "name": "one", "type": "bridge", "bridge": "b0"}
    write(tmp_path, b__conflist=LIST, a__conf=single, c__conf=other, notes__txt="{", _b__conf="{")
    found = read(tmp_path)
    assert list(found) == ["_b", "one", "lab"]
    lab, one = found["lab"], found["one"]
    assert isinstance(lab, NetworkConfig) and [each["type"] for each in lab.plugins] == ["ptp", "portmap"]
    assert isinstance(one, NetworkConfig) and one.plugins == (single,) and one.path == str(tmp_path / "a.conf")
    assert parse(lab.as_json(), lab.path) == lab


def test_a_directory_that_is_not_there_has_no_networks(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "Expecting property name"),
        ("[]", "not a JSON object"),
        ({**LIST, "name": "../lab"}, "no name of a network"),
        ({**LIST, "cniVersion": "0.2.0"}, "'0.2.0' is not spoken"),
        ({**LIST, "plugins": []}, "at least one"),
        ({**LIST, "plugins": [{"type": "../../bin/sh"}]}, "plugins[0].type"),
    ],
)
def test_a_file_that_cannot_be_used_keeps_its_name_and_says_why(tmp_path: Path, content: Any, what: str) -> None:
    write(tmp_path, lab__conflist=content)
    (why,) = read(tmp_path).values()
    assert isinstance(why, str) and what in why and str(tmp_path / "lab.conflist") in why


def test_a_plugin_is_given_what_it_says_it_takes_and_the_result_before_it() -> None:
    mapped = {"type": "portmap", "capabilities": {"portMappings": True, "ips": False}, "snat": True}
    config = parse({**LIST, "plugins": [{"type": "ptp"}, mapped]}, "")
    assert config.capabilities == {"portMappings"}
    wanted = {"portMappings": [{"hostPort": 1}], "ips": ["10.0.0.1"]}
    common = {"cniVersion": "1.0.0", "name": "lab"}
    assert config.for_plugin(config.plugins[0], wanted, None) == {"type": "ptp", **common}
    assert config.for_plugin(config.plugins[1], wanted, {"ips": []}) == {
        "type": "portmap",
        "snat": True,
        **common,
        "runtimeConfig": {"portMappings": [{"hostPort": 1}]},
        "prevResult": {"ips": []},
    }
