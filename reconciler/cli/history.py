"""`history NAME`: what its file asked for, revision by revision, oldest first, and which one is in force."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from reconciler.agent import report
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.cli.table import age, table


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the top level")


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.history import told

    revisions = told(places, args.name)
    if not revisions and report.row(places, args.name) is None:
        not_found(args.name)
        return NOT_FOUND
    if args.output == "json":
        print(json.dumps(revisions, indent=2))
    else:
        print(table(["REVISION", "AGE", "IN FORCE", "FROM", "CHANGES"], _lines(revisions)), end="")
    return 0


def _lines(revisions: list[dict[str, Any]]) -> list[list[str]]:
    now, lines = time.time(), []
    for one in revisions:
        commit = one["commit"]
        place = f"{one['source']} at {commit['id'][:12]} by {commit['author']}" if commit else one["source"]
        state = "yes" if one["inForce"] else "set aside" if one["setAside"] else "-"
        changes = "; ".join(one["changes"]) or ("the first that is kept" if one is revisions[0] else "-")
        lines.append([str(one["revision"]), age(one["at"], now), state, place, changes])
    return lines
