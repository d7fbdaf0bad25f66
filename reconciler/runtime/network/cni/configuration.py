"""The networks of a CNI configuration directory: `*.conflist`, `*.conf` and `*.json`, in the order of their names.

As in the specification's "network configuration format": a list names its plugins, which are called in that order; a
`.conf` of one plugin is a list of one. Of two files with one network's name the first has it. A file that cannot be
used still takes its name, so that whoever asks for it hears why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSIONS = ("1.0.0", "0.4.0", "0.3.1", "0.3.0")
_SUFFIXES = (".conflist", ".conf", ".json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_LARGEST = 1 << 20  # bytes
_REMEMBERING = ("1.0.0", "0.4.0")  # the versions that give DEL the result of ADD


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """One network. plugins: their objects as they stand in the file, which says where. unchecked: it asks not to be
    checked (disableCheck)."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    path: str
    unchecked: bool = False

    @property
    def remembers(self) -> bool:
        """Whether DEL is given the result of ADD, and there is CHECK."""
        return self.version in _REMEMBERING

    @property
    def capabilities(self) -> frozenset[str]:
        """What some plugin of it takes from whoever calls it, such as portMappings."""
        return frozenset(name for plugin in self.plugins for name, wanted in _capabilities(plugin).items() if wanted)

    def as_json(self) -> dict[str, Any]:
        plugins = [dict(plugin) for plugin in self.plugins]
        return {"cniVersion": self.version, "name": self.name, "disableCheck": self.unchecked, "plugins": plugins}

    def for_plugin(
        self, plugin: Mapping[str, Any], wanted: Mapping[str, Any], previous: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What the plugin reads: its object, with those of `wanted` that it can take, and the result so far."""
        capabilities = _capabilities(plugin)
        given = {name: value for name, value in wanted.items() if capabilities.get(name)}
        asked = {key: value for key, value in plugin.items() if key != "capabilities"}
        asked |= {"cniVersion": self.version, "name": self.name}
        if given:
            asked["runtimeConfig"] = given
        if previous is not None:
            asked["prevResult"] = dict(previous)
        return asked


def parse(data: Any, path: str) -> NetworkConfig:
    """A network of what a file, or a record of ours, holds. Raises ValueError that says what is wrong with it."""
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    name, version = data.get("name"), data.get("cniVersion")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"name: {name!r} is no name of a network: letters, digits and _ . - after the first")
    if version not in VERSIONS:
        raise ValueError(f"cniVersion: {version!r} is not spoken; it must be one of {', '.join(VERSIONS)}")
    plugins = data.get("plugins", [data])
    if not isinstance(plugins, list) or not plugins:
        raise ValueError("plugins: there must be at least one")
    for number, plugin in enumerate(plugins):
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        if not isinstance(kind, str) or not _NAME.fullmatch(kind):
            raise ValueError(f"plugins[{number}].type: must be the name of a plugin, not {kind!r}")
    return NetworkConfig(name, version, tuple(plugins), path, _flag(data, "disableCheck"))


def read(directory: Path) -> dict[str, NetworkConfig | str]:
    """Network name → what it is, or why its file cannot be used. A directory that is not there has none."""
    found: dict[str, NetworkConfig | str] = {}
    for path in _files(directory):
        name = path.stem
        try:
            data = _load(path)
            if isinstance(data, dict) and isinstance(data.get("name"), str):
                name = data["name"]
            network: NetworkConfig | str = parse(data, str(path))
        except (OSError, ValueError) as error:
            network = f"{path} cannot be used: {error}"
        found.setdefault(name, network)
    return found


def _files(directory: Path) -> Iterator[Path]:
    try:
        names = sorted(each.name for each in directory.iterdir())
    except OSError:
        return
    for name in names:
        if name.endswith(_SUFFIXES) and not name.startswith("."):
            yield directory / name


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST} bytes")
    return json.loads(text)


def _flag(data: Mapping[str, Any], key: str) -> bool:
    """Text is a flag too, as it is to libcni. Raises ValueError."""
    value = data.get(key, False)
    flags = {"true": True, "false": False}
    flag = flags.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise ValueError(f"{key}: must be true or false, not {value!r}")
    return flag


def _capabilities(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    found = plugin.get("capabilities")
    return found if isinstance(found, dict) else {}
