"""What an image's documents say: index, manifest and configuration, of OCI and of Docker (schema 2). Pure.

Invariant: what a document says is data, taken only in the form expected; nothing else in it has any effect, and one
that could be read as two kinds is refused (CVE-2021-41190). Follows OCI image-spec v1.1.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LARGEST = 4 * 1024 * 1024  # bytes of a document
MOST_LAYERS = 500  # OVL_MAX_STACK in fs/overlayfs/params.h

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_NANOSECONDS = 1e9
_TIMES = (
    ("interval", "Interval", _NANOSECONDS),
    ("timeout", "Timeout", _NANOSECONDS),
    ("start_period", "StartPeriod", _NANOSECONDS),
    ("start_interval", "StartInterval", _NANOSECONDS),
    ("retries", "Retries", 1),
)
_LARGEST_AMOUNT = 1 << 63  # Go's
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}

Json = dict[str, Any]


class BadImage(Exception):
    """It is not what an image must be: what, and where."""


@dataclass(frozen=True, slots=True)
class Blob:
    """digest: "sha256:" and hexadecimal digits. size: bytes."""

    digest: str
    size: int

    @property
    def hex(self) -> str:
        return self.digest.partition(":")[2]


@dataclass(frozen=True, slots=True)
class HealthTest:
    """What HEALTHCHECK says, with Docker's defaults (moby's daemon/health.go). Seconds."""

    command: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How the image wants to be run. env: without names that are no variables. volumes: directories, as written."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    health: HealthTest | None = None


def architecture() -> str:
    """This machine's, in Go's words."""
    machine = platform.machine()
    return _MACHINES.get(machine, machine)


def document(data: bytes, what: str) -> Json:
    """A JSON object. Raises BadImage."""
    found = _parsed(data, what)
    if not isinstance(found, dict):
        raise BadImage(f"{what} is no JSON object")
    if "manifests" in found and "layers" in found:
        raise BadImage(f"{what} is both an index and a manifest")
    return found


def objects(data: bytes, what: str) -> list[Json]:
    """A JSON list, what in it is an object."""
    found = _parsed(data, what)
    if not isinstance(found, list):
        raise BadImage(f"{what} is no JSON list")
    return [each for each in found if isinstance(each, dict)]


def _parsed(data: bytes, what: str) -> Any:
    if len(data) > LARGEST:
        raise BadImage(f"{what} is larger than {LARGEST} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadImage(f"{what} is no JSON: {error}") from None


def blob(found: object, what: str) -> Blob:
    """From a descriptor."""
    if not isinstance(found, Mapping) or not isinstance(found.get("size"), int) or found["size"] < 0:
        raise BadImage(f"{what} is no descriptor with a size")
    return Blob(digest(found.get("digest"), what), found["size"])


def digest(found: object, what: str) -> str:
    if not isinstance(found, str) or _DIGEST.fullmatch(found) is None:
        raise BadImage(f"{what} has no sha256 digest")
    return found


def is_index(found: Json) -> bool:
    return found.get("mediaType") in INDEXES or ("mediaType" not in found and "manifests" in found)


def choose(index: Json, tag: str | None, machine: str) -> Blob:
    """The manifest of that tag (of a layout) and machine, or an index of further ones."""
    entries = [each for each in _list(index, "manifests") if isinstance(each, Mapping)]
    if tag is not None:
        named = [each for each in entries if _ref_name(each) == tag or _ref_name(each).endswith(f":{tag}")]
        if not named:
            there_are = ", ".join(sorted(filter(None, map(_ref_name, entries)))) or "no names"
            raise BadImage(f"it has no image named {tag}; there are: {there_are}")
        entries = named
    fitting = [each for each in entries if _fits(each.get("platform"), machine)]
    if not fitting:
        raise BadImage(f"it has no image for linux/{machine}")
    if len({each.get("digest") for each in fitting}) > 1 and all(each.get("platform") is None for each in fitting):
        names = ", ".join(sorted(_ref_name(each) or "(no name)" for each in fitting))
        raise BadImage(f"it has several images, say which: {names}")
    return blob(fitting[0], "an entry of the index")


def _ref_name(entry: Mapping[str, Any]) -> str:
    annotations = entry.get("annotations")
    name = annotations.get("org.opencontainers.image.ref.name") if isinstance(annotations, Mapping) else None
    return name if isinstance(name, str) else ""


def _fits(found: object, machine: str) -> bool:
    """An entry without a platform fits any; "unknown" is that of attestations."""
    if not isinstance(found, Mapping):
        return True
    return found.get("os") == "linux" and found.get("architecture") == machine


def parts(manifest: Json) -> tuple[Blob, tuple[Blob, ...]]:
    """(configuration, layers from the bottom up)."""
    kind = manifest.get("mediaType")
    if "layers" not in manifest or (kind is not None and kind not in MANIFESTS):
        raise BadImage(f"a manifest of type {kind or 'unknown'} is not supported")
    layers = tuple(blob(each, "a layer") for each in _list(manifest, "layers"))
    return blob(manifest.get("config"), "the configuration"), layers


def config(found: Json, machine: str) -> tuple[ImageConfig, tuple[str, ...]]:
    """(how to run it, its layers' digests once uncompressed, from the bottom up)."""
    os_name, made_for = found.get("os", "linux"), found.get("architecture", machine)
    if os_name != "linux" or made_for not in (machine, ""):
        raise BadImage(f"it is for {os_name}/{made_for}, this machine is linux/{machine}")
    rootfs = found.get("rootfs")
    if not isinstance(rootfs, Mapping):
        raise BadImage("its configuration names no layers")
    layers = tuple(digest(each, "a layer in its configuration") for each in _list(rootfs, "diff_ids"))
    if len(layers) > MOST_LAYERS:
        raise BadImage(f"it has {len(layers)} layers, {MOST_LAYERS} is the most that can be used")
    wanted = found.get("config") or {}
    if not isinstance(wanted, Mapping):
        raise BadImage("its configuration is no object")
    return run_config(wanted), layers


def run_config(found: Mapping[str, Any]) -> ImageConfig:
    env: dict[str, str] = {}
    for entry in _words(found, "Env"):
        name, equals, value = entry.partition("=")
        if name and equals:
            env[name] = value
    return ImageConfig(
        _words(found, "Entrypoint"),
        _words(found, "Cmd"),
        tuple(env.items()),
        _word(found, "WorkingDir"),
        _word(found, "User"),
        _word(found, "StopSignal"),
        tuple(sorted(_object(found, "Volumes"))),
        _health(_object(found, "Healthcheck"), _words(found, "Shell")),
    )


def _health(found: Mapping[str, Any], shell: Sequence[str]) -> HealthTest | None:
    """shell: of the image, in place of /bin/sh -c. Durations are nanoseconds; 0: the default."""
    kind, *rest = _words(found, "Test") or ("NONE",)
    if kind == "NONE":
        return None
    if kind not in ("CMD", "CMD-SHELL") or not rest or (kind == "CMD-SHELL" and len(rest) > 1):
        raise BadImage("Healthcheck in its configuration is none that is known")
    given = {field: value for field, key, unit in _TIMES if (value := _amount(found, key, unit))}
    command = tuple(rest) if kind == "CMD" else (*(shell or ("/bin/sh", "-c")), *rest)
    return HealthTest(command, **given)


def _amount(found: Mapping[str, Any], key: str, unit: float) -> Any:
    value = found.get(key) or 0
    if not isinstance(value, int) or not 0 <= value < _LARGEST_AMOUNT:
        raise BadImage(f"{key} of Healthcheck in its configuration is no number that can be meant")
    return value / unit if unit > 1 else value


def _list(found: Mapping[str, Any], key: str) -> list[Any]:
    value = found.get(key) or []
    if not isinstance(value, list):
        raise BadImage(f"{key} is no list")
    return value


def _object(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key) or {}
    if not isinstance(value, Mapping) or any("\0" in name for name in value):
        raise BadImage(f"{key} in its configuration is no object")
    return value


def _words(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    words = _list(found, key)
    if not all(isinstance(word, str) and "\0" not in word for word in words):
        raise BadImage(f"{key} in its configuration is no list of words")
    return tuple(words)


def _word(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key) or ""
    if not isinstance(value, str) or "\0" in value:
        raise BadImage(f"{key} in its configuration is no word")
    return value
