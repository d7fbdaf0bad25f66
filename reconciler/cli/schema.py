"""`schema`: the JSON Schema (2020-12) of a spec, for editors."""

from __future__ import annotations

import argparse
import json

from reconciler.agent.paths import Places


def configure(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.spec.schema import document_schema

    print(json.dumps(document_schema(), indent=2))
    return 0
