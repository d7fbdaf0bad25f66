"""`images`: reference, digest, size and users of each image of native containers. Works without an agent."""

from __future__ import annotations

import argparse
import json

from reconciler.agent.images import Listed, listing
from reconciler.agent.paths import Places
from reconciler.cli.table import table
from reconciler.spec.quantities import format_size


def configure(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace, places: Places) -> int:
    found = listing(places)
    if args.output == "json":
        print(json.dumps([_json(each) for each in found], indent=2))
    elif args.output == "name":
        for each in found:
            print(each.image.reference)
    else:
        lines = [
            [each.image.reference, _brief(each.image.digest), _size(each.image.size), ", ".join(each.used_by) or "-"]
            for each in found
        ]
        print(table(["REFERENCE", "DIGEST", "SIZE", "USED BY"], lines), end="")
    return 0


def _brief(digest: str) -> str:
    return digest[: len("sha256:") + 12]


def _size(count: int) -> str:
    return format_size(count) if count < 1 << 20 else f"{count / (1 << 20):.1f}Mi"


def _json(each: Listed) -> dict[str, object]:
    image = each.image
    return {
        "reference": image.reference,
        "digest": image.digest,
        "size": image.size,
        "layers": list(image.layers),
        "providedAt": image.at,
        "usedBy": list(each.used_by),
    }
