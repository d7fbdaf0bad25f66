"""What a spec's image is called on an engine. Pure."""

from __future__ import annotations

import hashlib

from reconciler.runtime.provisioner import references
from reconciler.runtime.provisioner.references import Local


def local(reference: str) -> Local | None:
    """A file or directory of this host, to be handed over; None: the engine pulls it. Raises Terminal for what names
    none."""
    kind, colon, _ = reference.partition(":")
    found = references.parse(reference) if kind in references.KINDS and colon else None
    return found if isinstance(found, Local) else None


def name_of(reference: str) -> str:
    """With the tag that the engine would assume, so that both mean the same image; what is handed over gets a name of
    ours."""
    if (found := local(reference)) is not None:
        return f"reconciler/{found.kind}:{hashlib.sha256(reference.encode()).hexdigest()[:32]}"
    return reference if "@" in reference or ":" in reference.rpartition("/")[2] else f"{reference}:latest"
