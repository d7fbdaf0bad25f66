"""`check PATH...`: validates files and directories of specs, and touches nothing."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from reconciler.agent.paths import Places
from reconciler.cli.table import clean


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a spec file, or a directory of them")


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.checking import check

    result = check([Path(path) for path in args.paths])
    if args.output == "json":
        print(json.dumps(result.as_json(), indent=2))
    else:
        for fault in result.faults:
            print(clean(fault), file=sys.stderr)
        for path, why in result.ignored:
            print(clean(f"{path}: ignored: {why}"), file=sys.stderr)
        if not result.faults:
            print(f"{len(result.names)} containers in {result.files} files: all valid")
    return 1 if result.faults else 0
