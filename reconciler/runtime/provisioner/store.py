"""ROOT/images: which images are there, unpacked, and which container uses which.

    names/<hash of the reference>.json    reference, digest, layers (digests uncompressed, bottom up), how to run it
    layers/<digest>/                      one unpacked layer: tree/, layer.json (its size)
    containers/<name>/                    what a container has of its own: image.json, and what its backend needs; the
                                          same in volumes/<number>/ for each volume from an image
    tmp/                                  work in progress; whatever is there when an agent starts is removed
    lock                                  shared by who adds, exclusive for who prunes (flock(2))

Invariant: what is not in tmp/ is whole: a layer, verified and on disk, is renamed into place, and an image is written
down once all of its layers are. Nobody but us may enter (CVE-2021-41091): there are set-user-id programs in it.
Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reconciler.errors import Retryable
from reconciler.runtime import durable
from reconciler.runtime.kernel import removal, syscalls
from reconciler.runtime.provisioner.manifests import HealthTest, ImageConfig
from reconciler.states import Reason

ROOT = ""
"""The part of a container that its own image is for; those of its volumes are numbers."""

_CLAIM, _VOLUMES = "image.json", "volumes"
_LOCK_SECONDS = 10.0
_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Image:
    """One that is there, whole. layers: from the bottom up. size: bytes of its unpacked layers. at: when it was
    provided, seconds since the epoch."""

    reference: str
    digest: str
    layers: tuple[str, ...]
    config: ImageConfig = field(default_factory=ImageConfig)
    size: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` took away. size: bytes of unpacked layers."""

    references: tuple[str, ...]
    layers: int
    size: int


class Store:
    def __init__(self, base: Path) -> None:
        """base: ROOT/images; made when it is first written to."""
        self.base = base

    # ---- images

    def find(self, reference: str) -> Image | None:
        image = _read_image(self._name(reference))
        return image if image is not None and image.reference == reference and self._whole(image) else None

    def listing(self) -> list[Image]:
        found = (_read_image(path) for path in sorted((self.base / "names").glob("*.json")))
        return sorted((image for image in found if image and self._whole(image)), key=lambda image: image.reference)

    def _whole(self, image: Image) -> bool:
        return all(self.has(layer) for layer in image.layers)

    def save(self, image: Image) -> None:
        durable.replace(self._name(image.reference), json.dumps(_as_json(image)).encode(), sync=True)

    def _name(self, reference: str) -> Path:
        return self.base / "names" / f"{hashlib.sha256(os.fsencode(reference)).hexdigest()}.json"

    # ---- layers

    def has(self, layer: str) -> bool:
        return self._layer(layer).is_dir()

    def tree(self, layer: str) -> Path:
        return self._layer(layer) / "tree"

    def size(self, layer: str) -> int:
        try:
            return int(json.loads((self._layer(layer) / "layer.json").read_bytes())["size"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _layer(self, layer: str) -> Path:
        return self.base / "layers" / layer.partition(":")[2]

    def add(self, made: Path, layer: str, size: int) -> None:
        """Take a directory of tmp/ with the layer's `tree` in it. Whoever was first has made the same."""
        (made / "layer.json").write_text(json.dumps({"size": size}))
        _sync(made)
        (self.base / "layers").mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError, IsADirectoryError, NotADirectoryError):
            try:
                made.rename(self._layer(layer))
            except OSError:
                if not self.has(layer):
                    raise

    # ---- work in progress

    @contextlib.contextmanager
    def adding(self) -> Iterator[Path]:
        """A directory of tmp/, while nobody prunes; removed afterwards with what is left in it."""
        self._make()
        made = self.base / "tmp" / secrets.token_hex(8)
        with self._locked(fcntl.LOCK_SH):
            made.mkdir()
            try:
                yield made
            finally:
                _swept(made)

    def _make(self) -> None:
        self.base.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("names", "layers", "containers", "tmp"):
            (self.base / name).mkdir(exist_ok=True)

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        fd = os.open(self.base / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(fd, how | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        other = "images are being pruned" if how == fcntl.LOCK_SH else "an image is being provided"
                        raise Retryable(f"{self.base}: {other}; try again", Reason.IMAGE_UNAVAILABLE) from None
                    time.sleep(_POLL)
            yield
        finally:
            os.close(fd)

    def sweep(self, names: Collection[str]) -> None:
        """What an agent left that died at its work, and what containers left that are none of `names`."""
        if not self.base.is_dir():
            return
        for name in set(_names(self.base / "containers")) - set(names):
            self.remove(name)
        for name in _names(self.base / "tmp"):
            _swept(self.base / "tmp" / name)

    # ---- containers

    @contextlib.contextmanager
    def claimed(self, name: str, images: Mapping[str, Image]) -> Iterator[dict[str, Path]]:
        """By part, a new directory for what a container has of its own; until they are removed the images' layers stay.
        Raises Retryable when an image is not there any more."""
        self._make()
        self.remove(name)
        whole = self.base / "containers" / name
        places = {part: whole / _VOLUMES / part if part else whole for part in images}
        with self._locked(fcntl.LOCK_SH):
            if gone := [image.reference for image in images.values() if not self._whole(image)]:
                raise Retryable(f"{name}: image {gone[0]} was removed", Reason.IMAGE_UNAVAILABLE)
            whole.mkdir()
            try:
                for part, place in places.items():
                    place.mkdir(parents=True, exist_ok=True)
                    durable.replace(place / _CLAIM, json.dumps(_as_json(images[part])).encode(), sync=True)
                yield places
            except BaseException:
                _swept(whole)
                raise

    def remove(self, name: str) -> None:
        """What a container has of its own. Idempotent; it is gone from its place at once, however much it is."""
        aside = self.base / "tmp" / secrets.token_hex(8)
        with contextlib.suppress(FileNotFoundError):
            (self.base / "containers" / name).rename(aside)
        removal.remove(aside)

    def used(self) -> dict[str, tuple[Image, ...]]:
        """Container → the images that it runs on, its root's and its volumes'."""
        found = {name: map(_read_image, self._claims(name)) for name in _names(self.base / "containers")}
        return {name: tuple(image for image in images if image is not None) for name, images in found.items()}

    def _claims(self, name: str) -> list[Path]:
        whole = self.base / "containers" / name
        volumes = [whole / _VOLUMES / number / _CLAIM for number in _names(whole / _VOLUMES)]
        return volumes if volumes and not (whole / _CLAIM).exists() else [whole / _CLAIM, *volumes]

    # ---- pruning

    def prune(self, references: Iterable[str]) -> Pruned:
        """Keep those images, and what containers run on. Raises Retryable while an image is being provided."""
        if not self.base.is_dir():
            return Pruned((), 0, 0)
        with self._locked(fcntl.LOCK_EX):
            claims = [(name, claim) for name in _names(self.base / "containers") for claim in self._claims(name)]
            unread = [(name, claim) for name, claim in claims if _read_image(claim) is None]
            if unread:  # nobody knows which layers they are on
                name, claim = unread[0]
                why = f"{claim} cannot be read; destroy {name} first"
                raise Retryable(f"nothing was removed: {why}", Reason.RECORD_UNREADABLE)
            kept = set(references)
            gone = [image for image in self.listing() if image.reference not in kept]
            needed = {layer for images in self.used().values() for image in images for layer in image.layers}
            needed |= {layer for image in self.listing() if image.reference in kept for layer in image.layers}
            for image in gone:
                self._name(image.reference).unlink()
            needless = [name for name in _names(self.base / "layers") if f"sha256:{name}" not in needed]
            size = sum(self.size(f"sha256:{name}") for name in needless)
            for name in needless:
                aside = self.base / "tmp" / secrets.token_hex(8)
                (self.base / "layers" / name).rename(aside)
                removal.remove(aside)
            return Pruned(tuple(image.reference for image in gone), len(needless), size)


def is_whiteout(found: os.stat_result) -> bool:
    """What overlayfs.rst has in place of a name that is hidden."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _swept(directory: Path) -> None:
    """As far as it goes; the next agent tries again."""
    with contextlib.suppress(OSError):
        removal.remove(directory)


def _names(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return []


def _as_json(image: Image) -> dict[str, Any]:
    return asdict(image)


def _read_image(path: Path) -> Image | None:
    """None for one that is not there, or cannot be understood: it is provided anew."""
    try:
        data = json.loads(path.read_bytes())
        config = data["config"]
        return Image(
            reference=str(data["reference"]),
            digest=str(data["digest"]),
            layers=tuple(map(str, data["layers"])),
            config=ImageConfig(
                tuple(config["entrypoint"]),
                tuple(config["cmd"]),
                tuple((name, value) for name, value in config["env"]),
                config["working_dir"],
                config["user"],
                config["stop_signal"],
                tuple(config.get("volumes", ())),
                _health(config.get("health")),
            ),
            size=int(data["size"]),
            at=float(data["at"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _health(found: Mapping[str, Any] | None) -> HealthTest | None:
    return HealthTest(**{**found, "command": tuple(found["command"])}) if found is not None else None


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(fd)
    finally:
        os.close(fd)
