"""`inspect NAME`: the row, the record and the checkpoint of one container, as JSON; or its launch plan."""

from __future__ import annotations

import argparse
import json
from typing import Any

from reconciler.agent import report
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.runtime.mesos.checkpoint import RUN, Checkpoints


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--launch-plan", action="store_true", help="the steps by which its process was set up")


def run(args: argparse.Namespace, places: Places) -> int:
    row = report.row(places, args.name)
    if row is None:
        not_found(args.name)
        return NOT_FOUND
    checkpoint = _checkpoint(places, args.name)
    if args.launch_plan:
        print(json.dumps((checkpoint or {}).get("plan"), indent=2))
        return 0
    try:
        record: Any = report.record(places, args.name)
    except ValueError as error:
        record = {"unreadable": str(error)}
    print(json.dumps({"version": 1, "row": row, "record": record, "checkpoint": checkpoint}, indent=2))
    return 0


def _checkpoint(places: Places, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((Checkpoints(places.runtime_dir).directory(name) / RUN).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        return {"unreadable": str(error)}
    return found
