"""`ps`: one row per name, nested ones indented below their parents."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from reconciler.agent import report
from reconciler.agent.paths import Places
from reconciler.cli.table import age, clean, table


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-w", "--wide", action="store_true", help="the same as -o wide")


def run(args: argparse.Namespace, places: Places) -> int:
    rows = report.rows(places)
    form = "wide" if args.wide else args.output
    if form == "json":
        print(json.dumps(rows, indent=2))
    elif form == "name":
        for row in rows:
            print(clean(row["name"]))
    else:
        print(_table(rows, time.time(), wide=form == "wide"), end="")
    return 0


def _table(rows: list[dict[str, Any]], now: float, *, wide: bool) -> str:
    head = ["NAME", "STATUS", "PID", "RESTARTS", "AGE", "MESSAGE"]
    if wide:
        head[5:5] = ["STATE", "GEN", "DIGEST", "SOURCE"]
    lines = []
    for row in rows:
        depth = row["name"].count(".")
        label = row["name"].rpartition(".")[2] if depth else row["name"]
        line = ["  " * depth + label, row["status"], str(row["pid"] or "-"), str(row["restarts"])]
        line.append(age(row["startedAt"] if row["pid"] else None, now))
        if wide:
            line += [row["state"] or "-", str(row["generation"]), row["digest"][:12] or "-", row["source"] or "-"]
        lines.append([*line, row["message"]])
    return table(head, lines)
