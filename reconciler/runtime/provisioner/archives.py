"""Images in files of this host: archives of `docker save`, OCI layouts and tars of them.

Invariant: nothing is extracted here; names in an archive are keys to look its members up by, never paths. What is
read is verified: documents here, layers by whoever unpacks them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Protocol

from reconciler.runtime.kernel import rootpaths
from reconciler.runtime.provisioner import manifests
from reconciler.runtime.provisioner.manifests import BadImage, Blob, ImageConfig
from reconciler.runtime.provisioner.references import DOCKER_ARCHIVE, OCI, Local


@dataclass(frozen=True, slots=True)
class Layer:
    """diff_id: digest of the uncompressed archive. blob: as it is kept; None: only the former is known. key: where."""

    diff_id: str
    blob: Blob | None
    key: str


@dataclass(frozen=True, slots=True)
class Described:
    """digest: of the manifest, or of the configuration where there is no manifest. Layers from the bottom up.
    configuration: the document, as it is written."""

    digest: str
    config: ImageConfig
    layers: tuple[Layer, ...]
    configuration: bytes = b""


class Source(Protocol):
    """Where one image comes from."""

    def describe(self) -> Described:
        """Raises BadImage, OSError."""
        ...

    def open(self, layer: Layer) -> AbstractContextManager[IO[bytes]]:
        """The layer's archive, as it is kept."""
        ...


class _Files(Protocol):
    def read(self, name: str, limit: int) -> bytes: ...

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]: ...


class _Directory:
    def __init__(self, path: str) -> None:
        self._path = path

    def read(self, name: str, limit: int) -> bytes:
        with self.open(name) as file:
            return file.read(limit + 1)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        with rootpaths.opened(self._path) as root:
            fd = rootpaths.open_inside(root, name, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            yield file


class _Tar:
    """Uncompressed, so that its members can be reached in any order."""

    def __init__(self, tar: tarfile.TarFile, path: str) -> None:
        self._tar, self._path = tar, path

    def read(self, name: str, limit: int) -> bytes:
        with self.open(name) as file:
            return file.read(limit + 1)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        try:
            file = self._tar.extractfile(name)
        except KeyError:
            raise BadImage(f"{self._path} has no {name}") from None
        if file is None:
            raise BadImage(f"{self._path}: {name} is no file")
        with file:
            yield file


@contextlib.contextmanager
def opened(local: Local) -> Iterator[Source]:
    """Raises BadImage, OSError."""
    if local.kind == OCI:
        yield Layout(_Directory(local.path), local.tag)
        return
    try:
        tar = tarfile.open(local.path, "r:")  # noqa: SIM115 - closed below
    except tarfile.TarError as error:
        raise BadImage(f"{local.path} is no uncompressed tar archive: {error}") from None
    with tar:
        files = _Tar(tar, local.path)
        yield Saved(files, local.tag) if local.kind == DOCKER_ARCHIVE else Layout(files, local.tag)


class Layout:
    """An OCI image layout: index.json, and everything else in blobs/sha256/."""

    def __init__(self, files: _Files, tag: str | None) -> None:
        self._files, self._tag = files, tag

    def describe(self) -> Described:
        machine = manifests.architecture()
        index = manifests.document(self._files.read("index.json", manifests.LARGEST), "index.json")
        chosen = manifests.choose(index, self._tag, machine)
        found = manifests.document(self._verified(chosen, "the manifest"), "the manifest")
        if manifests.is_index(found):
            chosen = manifests.choose(found, None, machine)
            found = manifests.document(self._verified(chosen, "the manifest"), "the manifest")
        config, blobs = manifests.parts(found)
        data = self._verified(config, "the configuration")
        wanted, diff_ids = manifests.config(manifests.document(data, "the configuration"), machine)
        return Described(chosen.digest, wanted, layers(diff_ids, blobs), data)

    def _verified(self, blob: Blob, what: str) -> bytes:
        return verified(self._files.read(_place(blob), manifests.LARGEST), blob.digest, what)

    def open(self, layer: Layer) -> AbstractContextManager[IO[bytes]]:
        return self._files.open(layer.key)


def _place(blob: Blob) -> str:
    return f"blobs/sha256/{blob.hex}"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def verified(data: bytes, digest: str, what: str) -> bytes:
    if (found := digest_of(data)) != digest:
        raise BadImage(f"{what} has the digest {found}, not {digest}")
    return data


def layers(diff_ids: tuple[str, ...], blobs: tuple[Blob, ...]) -> tuple[Layer, ...]:
    if len(diff_ids) != len(blobs):
        raise BadImage(f"its manifest has {len(blobs)} layers, its configuration {len(diff_ids)}")
    return tuple(Layer(diff, blob, _place(blob)) for diff, blob in zip(diff_ids, blobs, strict=True))


class Saved:
    """An archive of `docker save`: manifest.json says which members are the configuration and the layers."""

    def __init__(self, files: _Files, tag: str | None) -> None:
        self._files, self._tag = files, tag

    def describe(self) -> Described:
        entry = self._entry()
        name, keys = entry.get("Config"), entry.get("Layers")
        if not isinstance(name, str) or not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise BadImage("manifest.json names no configuration and layers")
        data = self._files.read(name, manifests.LARGEST)
        found = manifests.document(data, name)
        wanted, diff_ids = manifests.config(found, manifests.architecture())
        if len(diff_ids) != len(keys):
            raise BadImage(f"manifest.json has {len(keys)} layers, its configuration {len(diff_ids)}")
        found_layers = tuple(Layer(diff, None, key) for diff, key in zip(diff_ids, keys, strict=True))
        return Described(digest_of(data), wanted, found_layers, data)

    def _entry(self) -> manifests.Json:
        images = manifests.objects(self._files.read("manifest.json", manifests.LARGEST), "manifest.json")
        names = {name: each for each in images for name in each.get("RepoTags") or () if isinstance(name, str)}
        there_are = ", ".join(sorted(names)) or "no names"
        if self._tag is not None:
            if self._tag not in names:
                raise BadImage(f"it has no image named {self._tag}; there are: {there_are}")
            return names[self._tag]
        if len(images) != 1:
            raise BadImage(f"it has {len(images)} images, say which: {there_are}")
        return images[0]

    def open(self, layer: Layer) -> AbstractContextManager[IO[bytes]]:
        return self._files.open(layer.key)
