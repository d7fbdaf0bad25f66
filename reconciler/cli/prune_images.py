"""`prune-images`: removes what no recorded container uses: names of images, and layers. Beside an agent too."""

from __future__ import annotations

import argparse
import json
import sys

from reconciler.agent.images import prune
from reconciler.agent.paths import Places


def configure(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace, places: Places) -> int:
    found = prune(places)
    if args.output == "json":
        print(json.dumps({"images": list(found.references), "layers": found.layers, "size": found.size}, indent=2))
        return 0
    for reference in found.references:
        print(reference)
    print(f"{found.layers} layers removed, {found.size / (1 << 20):.1f} MiB", file=sys.stderr)
    return 0
