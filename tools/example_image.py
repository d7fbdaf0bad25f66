"""Makes the image that an example runs on, from this machine's busybox: an OCI image layout of two layers, offline.

tools/example_image.py DIRECTORY        nothing is done where there is one already, nor without root
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
PAGE = b"<h1>Served from an image</h1>\n"
USERS = b"root:x:0:0::/root:/bin/sh\nweb:x:80:80::/srv:/bin/sh\n"
CONFIG = {
    "Entrypoint": ["/bin/httpd", "-f", "-h", "/srv"],
    "Cmd": ["-p", "80"],
    "Env": ["PATH=/bin"],
    "User": "web",
    "WorkingDir": "/srv",
}


def main(place: Path) -> None:
    busybox = shutil.which("busybox")
    if place.exists() or os.geteuid() != 0:
        return
    if busybox is None:
        sys.exit("the example with an image needs busybox (Debian: busybox-static)")
    made = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.rmtree(made, ignore_errors=True)
    (made / "blobs" / "sha256").mkdir(parents=True)
    layout(made, [tools(Path(busybox)), layer({"srv": None, "srv/index.html": PAGE})])
    try:
        made.rename(place)
    except OSError:  # somebody else was first
        shutil.rmtree(made)


def tools(busybox: Path) -> bytes:
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    links = {f"bin/{name}": "busybox" for name in names if name != "busybox"}
    return layer({"bin": None, "bin/busybox": busybox.read_bytes(), "etc": None, "etc/passwd": USERS, **links})


def layer(entries: dict[str, bytes | str | None]) -> bytes:
    """By name: a file's content, a link's target, or None for a directory."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:
        for name, what in entries.items():
            entry, content = tarfile.TarInfo(name), None
            entry.mode = 0o755 if what is None or name == "bin/busybox" else 0o644
            if what is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(what, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, what
            else:
                entry.size, content = len(what), io.BytesIO(what)
            tar.addfile(entry, content)
    return found.getvalue()


def layout(place: Path, layers: list[bytes]) -> None:
    def keep(data: bytes, kind: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        (place / "blobs" / "sha256" / name).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{name}", "size": len(data)}

    machine = MACHINES.get(platform.machine(), platform.machine())
    ids = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers]
    config = {"os": "linux", "architecture": machine, "config": CONFIG, "rootfs": {"type": "layers", "diff_ids": ids}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep(json.dumps(config).encode(), "config.v1+json"),
        "layers": [keep(gzip.compress(each, mtime=0), "layer.v1.tar+gzip") for each in layers],
    }
    entry = keep(json.dumps(manifest).encode(), "manifest.v1+json")
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
