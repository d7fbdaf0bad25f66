"""What an image's reference names: an archive, a layout directory, or a repository of a registry. Pure.

docker-archive:PATH[:NAME:TAG]   of `docker save`
oci-archive:PATH[:TAG]           a tar of an OCI image layout
oci:PATH[:TAG]                   an OCI image layout (OCI image-layout.md)
[HOST[:PORT]/]NAME[:TAG|@DIGEST] in a registry; without a host, in Docker Hub, as Docker has it
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.errors import Terminal
from reconciler.states import Reason

DOCKER_ARCHIVE, OCI_ARCHIVE, OCI = KINDS = ("docker-archive", "oci-archive", "oci")
DOCKER_HUB = "docker.io"

_HOST = re.compile(r"([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?")
_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 255


@dataclass(frozen=True, slots=True)
class Local:
    """path: absolute, of this host. tag: which of several images; None: the only one."""

    kind: str
    path: str
    tag: str | None


@dataclass(frozen=True, slots=True)
class Remote:
    """registry: host, perhaps with a port. A digest counts for more than a tag."""

    registry: str
    repository: str
    tag: str
    digest: str | None

    @property
    def which(self) -> str:
        return self.digest or self.tag


def parse(reference: str, field: str = "spec.image.reference") -> Local | Remote:
    """Raises Terminal, naming the field, for what names no image that can be had."""
    kind, colon, rest = reference.partition(":")
    if kind in KINDS and colon:
        path, _, tag = rest.partition(":")
        if not path.startswith("/") or "\0" in path:
            raise _refused(field, reference, "its path must be an absolute one of the host")
        return Local(kind, path, tag or None)
    return _remote(reference, field)


def _remote(reference: str, field: str) -> Remote:
    name, at, digest = reference.partition("@")
    host, slash, repository = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, repository = DOCKER_HUB, name if slash else f"library/{name}"
    repository, _, tag = repository.partition(":")
    wrong = [
        what
        for what, pattern, text in (
            ("registry", _HOST, host),
            ("name", _NAME, repository),
            ("tag", _TAG, tag or "latest"),
            ("digest", _DIGEST, digest if at else f"sha256:{'0' * 64}"),
        )
        if pattern.fullmatch(text) is None or len(text) > _LONGEST
    ]
    if wrong:
        forms = ", ".join(f"{each}:PATH" for each in KINDS)
        raise _refused(
            field, reference, f"{wrong[0]} is none; write [HOST/]NAME[:TAG] or NAME@DIGEST, or one of {forms}"
        )
    return Remote(host, repository, tag or "latest", digest or None)


def _refused(field: str, reference: str, why: str) -> Terminal:
    return Terminal(f"{field}: {reference}: {why}", Reason.INVALID_SPEC)
