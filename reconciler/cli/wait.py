"""`wait NAME... --for CONDITION`: until every one of them is as asked; exit 7 when that takes too long."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from reconciler.agent import report
from reconciler.agent.paths import Places
from reconciler.cli.table import clean
from reconciler.errors import ReconcilerError
from reconciler.states import Status

TIMED_OUT = 7
_POLL = 0.03


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--for", dest="condition", default="running", choices=CONDITIONS, help="default: running")
    parser.add_argument("--timeout", default="1m", metavar="T", help="such as 500ms, 30s, 1m30s; default: 1m")


def run(args: argparse.Namespace, places: Places) -> int:
    deadline = time.monotonic() + duration(args.timeout)
    while True:
        rows = {row["name"]: row for row in report.rows(places)}
        unmet = [name for name in args.names if not CONDITIONS[args.condition](rows.get(name))]
        if not unmet:
            return 0
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    for name in unmet:
        row = rows.get(name)
        is_now = f"{row['status']}: {row['message']}" if row is not None else "there is no such container"
        print(clean(f"reconciler: {name} is not {args.condition} after {args.timeout}: {is_now}"), file=sys.stderr)
    return TIMED_OUT


def duration(text: str, flag: str = "--timeout") -> float:
    """Seconds. Raises ReconcilerError."""
    from reconciler.spec.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise ReconcilerError(f"{flag}: {error}") from error


def _running(row: dict[str, Any] | None) -> bool:
    return row is not None and row["status"] in (Status.RUNNING, Status.UNHEALTHY) and row["pid"] is not None


def _ready(row: dict[str, Any] | None) -> bool:
    return row is not None and row["ready"] is True


def _completed(row: dict[str, Any] | None) -> bool:
    return row is not None and row["status"] == Status.COMPLETED


def _gone(row: dict[str, Any] | None) -> bool:
    return row is None


CONDITIONS = {"running": _running, "ready": _ready, "completed": _completed, "gone": _gone}
