"""Images for tests: layers made of entries, in an OCI layout, a tar of one, or a `docker save` archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import stat
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.runtime.provisioner.manifests import architecture

APPLETS = (
    "sh",
    "sleep",
    "cat",
    "echo",
    "true",
    "ls",
    "id",
    "env",
    "touch",
    "stat",
    "test",
    "rm",
    "readlink",
    "mount",
    "grep",
    "find",
    "sort",
    "hostname",
    "sed",
)
TIME = 1_600_000_000


def directory(name: str, mode: int = 0o755, **more: Any) -> tarfile.TarInfo:
    return _entry(name, tarfile.DIRTYPE, mode, **more)


def link(name: str, target: str) -> tarfile.TarInfo:
    return _entry(name, tarfile.SYMTYPE, 0o777, linkname=target)


def hard(name: str, target: str, mode: int = 0o644) -> tarfile.TarInfo:
    return _entry(name, tarfile.LNKTYPE, mode, linkname=target)


def device(name: str) -> tarfile.TarInfo:
    return _entry(name, tarfile.CHRTYPE, 0o666, devmajor=1, devminor=5)


def file(name: str, content: bytes | str = b"", mode: int = 0o644, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    data = content.encode() if isinstance(content, str) else content
    entry = _entry(name, tarfile.REGTYPE, mode, **more)
    entry.size = len(data)
    return entry, data


def _entry(name: str, kind: bytes, mode: int, **more: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, mode, TIME
    for field, value in more.items():
        setattr(entry, field, value)
    return entry


Entry = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def layer(*entries: Entry) -> bytes:
    """Its tar archive, not compressed."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in entries:
            entry, data = each if isinstance(each, tuple) else (each, b"")
            tar.addfile(entry, io.BytesIO(data))
    return found.getvalue()


def base() -> bytes:
    """A root file system with a shell."""
    busybox = Path(shutil.which("busybox") or "").read_bytes()
    tools = [link(f"bin/{applet}", "busybox") for applet in APPLETS]
    passwd = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n"
    return layer(
        directory("bin"),
        file("bin/busybox", busybox, 0o755),
        *tools,
        directory("etc"),
        file("etc/passwd", passwd),
        file("etc/group", "staff:x:50:\nwebs:x:1001:\n"),
        directory("root", 0o700),
        directory("tmp", 0o1777),
    )


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _config(layers: Sequence[bytes], config: Mapping[str, Any]) -> bytes:
    found = {"os": "linux", "architecture": architecture(), "config": dict(config)}
    return json.dumps(found | {"rootfs": {"type": "layers", "diff_ids": [sha256(each) for each in layers]}}).encode()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def oci(
    path: Path, layers: Sequence[bytes], tag: str = "", pack: Callable[[bytes], bytes] = gzipped, **config: Any
) -> str:
    """A layout directory, with compressed layers; returns the reference. One that is there gets a further image."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def keep(data: bytes, kind: str) -> dict[str, Any]:
        (blobs / sha256(data).partition(":")[2]).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": sha256(data), "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep(_config(layers, config), "config.v1+json"),
        "layers": [keep(pack(each), f"layer.v1.tar+{'gzip' if pack is gzipped else 'zstd'}") for each in layers],
    }
    entry = keep(json.dumps(manifest).encode(), "manifest.v1+json")
    if tag:
        entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    index = path / "index.json"
    others = json.loads(index.read_bytes())["manifests"] if index.exists() else []
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [*others, entry]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return f"oci:{path}:{tag}" if tag else f"oci:{path}"


def oci_archive(path: Path, layers: Sequence[bytes], **config: Any) -> str:
    place = path.with_suffix(".layout")
    oci(place, layers, **config)
    with tarfile.open(path, "w") as tar:
        for each in sorted(place.rglob("*")):
            tar.add(each, str(each.relative_to(place)), recursive=False)
    return f"oci-archive:{path}"


def docker_archive(path: Path, layers: Sequence[bytes], tag: str = "box:1", **config: Any) -> str:
    made = _config(layers, config)
    name = f"{hashlib.sha256(made).hexdigest()}.json"
    keys = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": keys}]).encode()
    with tarfile.open(path, "w") as tar:
        for key, data in ((name, made), *zip(keys, layers, strict=True), ("manifest.json", manifest)):
            tar.addfile(*(lambda entry: (entry[0], io.BytesIO(entry[1])))(file(key, data)))
    return f"docker-archive:{path}"


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
