"""What an image's reference names: an archive, a layout directory, or a repository of a registry. Pure.

docker-archive:PATH[:NAME:TAG]   of `docker save`
oci-archive:PATH[:TAG]           a tar of an OCI image layout
oci:PATH[:TAG]                   an OCI image layout (OCI image-layout.md)
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.errors import Terminal
from reconciler.states import Reason

DOCKER_ARCHIVE, OCI_ARCHIVE, OCI = KINDS = ("docker-archive", "oci-archive", "oci")


@dataclass(frozen=True, slots=True)
class Local:
    """path: absolute, of this host. tag: which of several images; None: the only one."""

    kind: str
    path: str
    tag: str | None


def parse(reference: str) -> Local:
    """Raises Terminal for what names no image that can be had."""
    kind, colon, rest = reference.partition(":")
    if kind not in KINDS or not colon:
        known = ", ".join(f"{each}:PATH" for each in KINDS)
        raise _refused(reference, f"must be one of {known}")
    path, _, tag = rest.partition(":")
    if not path.startswith("/") or "\0" in path:
        raise _refused(reference, "its path must be an absolute one of the host")
    return Local(kind, path, tag or None)


def _refused(reference: str, why: str) -> Terminal:
    return Terminal(f"spec.image.reference: {reference}: {why}", Reason.INVALID_SPEC)
