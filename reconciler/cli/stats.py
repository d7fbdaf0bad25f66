"""`stats [NAME…]`: what containers use, a row each; what is nested in one counts as its own.

CPU use is over an interval, of one CPU: half a second, or that of `--watch`, which goes on until it is interrupted.
Works without an agent. With `-o json` a list, with `--watch` a list on a line of its own each time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

from reconciler.agent import report
from reconciler.agent.lock import known_owner
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.cli.table import table
from reconciler.errors import ReconcilerError
from reconciler.runtime.build import sample
from reconciler.runtime.mesos.measuring import Sample, as_json, cpu_percent

_INTERVAL = 0.5
_TCP = ("tcpEstablished", "tcpRetransmits")
_UNITS = ("B", "Ki", "Mi", "Gi", "Ti", "Pi")

Row = Mapping[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every container that runs")
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="again and again, this far apart")


def run(args: argparse.Namespace, places: Places) -> int:
    if args.watch is not None and args.watch < 0.1:
        raise ReconcilerError("--watch: at least 0.1 seconds")
    unknown = _unknown(args.names, places)
    for name in unknown:
        not_found(name)
    if unknown:
        return NOT_FOUND
    names = args.names or None
    owner = known_owner(places) or ""
    before = sample(places.root, places.runtime_dir, owner, names)
    while True:
        time.sleep(args.watch or _INTERVAL)
        after = sample(places.root, places.runtime_dir, owner, names)
        print(_text(_rows(names, before, after), args.output, again=args.watch is not None), flush=True)
        if args.watch is None:
            return 0
        before = after


def _unknown(names: list[str], places: Places) -> list[str]:
    known = {row["name"] for row in report.rows(places)} if names else set()
    return [name for name in names if name not in known]


def _rows(names: list[str] | None, before: Mapping[str, Sample], after: Mapping[str, Sample]) -> list[Row]:
    rows = []
    for name in names or sorted(after, key=lambda name: name.split(".")):
        now = after.get(name)
        percent = cpu_percent(before.get(name), now) if now is not None else None
        rows.append(as_json(name, now, percent))
    return rows


def _text(rows: list[Row], output: str, *, again: bool) -> str:
    if output == "json":
        return json.dumps(rows, indent=None if again else 2)
    if output == "name":
        return "\n".join(row["name"] for row in rows)
    head = ["NAME", "CPU %", "CPU TIME", "CPU LIMIT", "THROTTLED"]
    head += ["MEMORY", "WORKING SET", "MEMORY LIMIT", "PIDS", "PIDS LIMIT", "NET IN / OUT"]
    lines = [_line(row) for row in rows]
    if output == "wide":
        head += [
            "PEAK",
            "REFUSED",
            "DISK",
            "DISK LIMIT",
            "READ",
            "WRITTEN",
            "NET ERRORS",
            "NET DROPS",
            "TCP",
            "RETRANSMITS",
        ]
        lines = [[*line, *_more(row)] for line, row in zip(lines, rows, strict=True)]
    return table(head, lines).rstrip("\n") + ("\n" if again else "")


def _line(row: Row) -> list[str]:
    return [
        row["name"],
        _figure(row["cpuPercent"], ".1f"),
        _figure(row["cpuSeconds"], ".2f", "s"),
        _figure(row["cpuLimit"], "g"),
        _figure(row["throttledSeconds"], ".2f", "s"),
        _size(row["memoryBytes"]),
        _size(row["workingSetBytes"]),
        _size(row["memoryLimitBytes"]),
        _figure(row["pids"]),
        _figure(row["pidsLimit"]),
        f"{_size(row['receivedBytes'])} / {_size(row['sentBytes'])}" if row["interfaces"] else "-",
    ]


def _more(row: Row) -> list[str]:
    disk = [_size(row[key]) for key in ("diskBytes", "diskLimitBytes", "ioReadBytes", "ioWrittenBytes")]
    own = [_size(row["memoryPeakBytes"]), _figure(row["pidsRefused"]), *disk]
    return [*own, *(_lost(row, what) for what in ("Errors", "Drops")), *(_figure(row[key]) for key in _TCP)]


def _lost(row: Row, what: str) -> str:
    """In and out, of all interfaces."""
    found = row["interfaces"]
    return _figure(sum(each[way + what] for each in found.values() for way in ("received", "sent")) if found else None)


def _figure(value: float | None, form: str = "", unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _size(count: int | None) -> str:
    """Three figures at the most, for people."""
    if count is None:
        return "-"
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.3g}{_UNITS[unit]}"
