"""Images in files of this host, handed to an engine in the one form that every engine takes: `docker save`'s.

    archive or layout ─▶ described ▸ each layer measured and verified ─▶ POST /images/load, made as it is sent

The engine knows such an image by a name of ours that says which reference it came from. Nothing of it is written to
this host's disk beside the engine's own.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from reconciler.runtime.docker.engine import Refused
from reconciler.runtime.provisioner import archives
from reconciler.runtime.provisioner.archives import Described, Layer, Source
from reconciler.runtime.provisioner.manifests import BadImage
from reconciler.runtime.provisioner.references import Local
from reconciler.runtime.provisioner.unpacking import Stream

if TYPE_CHECKING:
    from docker import APIClient

Say = Callable[[str], None]
Check = Callable[[], None]
"""Called often; raises when the work is to be given up."""

_BLOCK = 512  # of a tar archive


def load(api: APIClient, found: Local, name: str, say: Say, check: Check) -> None:
    """Blocks. Raises BadImage, Refused, OSError."""
    with archives.opened(found) as source:
        described = source.describe()
        sizes = _measured(source, described, say, check)
        for line in api.load_image(_saved(source, described, sizes, name, say, check)):
            if "error" in line:
                raise Refused(500, str(line["error"]))


def _measured(source: Source, described: Described, say: Say, check: Check) -> dict[str, int]:
    """Layer → its bytes once uncompressed. Each is what it says it is."""
    sizes: dict[str, int] = {}
    for number, layer in enumerate(described.layers, 1):
        if layer.diff_id not in sizes:
            say(f"reading layer {number} of {len(described.layers)}")
            sizes[layer.diff_id] = sum(map(len, _plain(source, layer, check)))
    return sizes


def _plain(source: Source, layer: Layer, check: Check) -> Iterator[bytes]:
    with source.open(layer) as file:
        stream = Stream(file, layer, check)
        yield from stream.pieces()
        stream.finish()


def _saved(
    source: Source, described: Described, sizes: dict[str, int], name: str, say: Say, check: Check
) -> Iterator[bytes]:
    """The archive: configuration, layers, manifest. What fails while it is sent is a BadImage."""
    keys = {layer.diff_id: f"{layer.diff_id.partition(':')[2]}/layer.tar" for layer in described.layers}
    config = f"{hashlib.sha256(described.configuration).hexdigest()}.json"
    try:
        yield from _member(config, len(described.configuration), iter([described.configuration]))
        for number, diff_id in enumerate(sizes, 1):
            say(f"layer {number} of {len(sizes)}")
            layer = next(each for each in described.layers if each.diff_id == diff_id)
            yield from _member(keys[diff_id], sizes[diff_id], _plain(source, layer, check))
        entry: dict[str, Any] = {"Config": config, "RepoTags": [name]}
        manifest = json.dumps([entry | {"Layers": [keys[each.diff_id] for each in described.layers]}]).encode()
        yield from _member("manifest.json", len(manifest), iter([manifest]))
    except OSError as error:  # which the client would take for one of the connection
        raise BadImage(str(error)) from error
    yield bytes(2 * _BLOCK)


def _member(name: str, size: int, content: Iterator[bytes]) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = size
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield from content
    yield bytes(-size % _BLOCK)
