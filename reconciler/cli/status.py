"""`status [NAME]`: the agent, the source and its remarks, then each container in full; for one name only that one."""

from __future__ import annotations

import argparse
import json
from typing import Any

from reconciler.agent import report
from reconciler.agent.lock import holder
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.cli.table import clean


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME")


def run(args: argparse.Namespace, places: Places) -> int:
    rows = report.rows(places)
    if args.name is not None:
        rows = [row for row in rows if row["name"] == args.name or row["name"].startswith(args.name + ".")]
        if not any(row["name"] == args.name for row in rows):
            not_found(args.name)
            return NOT_FOUND
    agent, notes, checks = holder(places), report.notes(places), report.checks(places)
    if args.output == "json":
        rows = [{**row, "checks": checks.get(row["name"], [])} for row in rows]
        state = {"pid": agent.pid, "source": agent.source} if agent else None
        shown = {"version": 1, "agent": state, "notes": notes, "containers": rows}
        print(json.dumps(shown if args.name is None else rows, indent=2))
        return 0
    if args.name is None:
        print(f"agent: pid {agent.pid}, {clean(agent.source or 'a command')}" if agent else "agent: none is running")
        for path, why in sorted(notes.items()):
            print(clean(f"{path}: {why}"))
    for row in rows:
        print()
        print("\n".join(_lines(row, checks.get(row["name"], []))))
    return 0


def _lines(row: dict[str, Any], checks: list[dict[str, Any]]) -> list[str]:
    state = f" ({row['state']})" if row["state"] else ""
    lines = [clean(f"{row['name']}: {row['status']}{state}")]
    if row["message"]:
        lines += [f"  {clean(part)}" for part in row["message"].split("; ")]
    facts = [
        ("pid", row["pid"]),
        ("started", row["startedAt"]),
        ("ready", "no" if row["pid"] and not row["ready"] else None),
        *(("check", report.check_in_words(check)) for check in checks),
        ("restarts", row["restarts"] or None),
        ("next try", row["nextTry"]),
        ("last exit", exit_in_words(row["exit"])),
        ("source", row["source"] or None),
        ("commit", commit_in_words(row)),
        ("sandbox", row["sandbox"] or None),
    ]
    return lines + [f"  {label + ':':<11}{clean(str(value))}" for label, value in facts if value is not None]


def commit_in_words(row: dict[str, Any]) -> str | None:
    """Of the version in force; rows that an earlier release wrote say nothing of it."""
    if (commit := row.get("commit")) is None:
        return None
    url = commit["url"].partition("#")[0]
    return f"{url}#{commit['id']} by {commit['author']}, {commit['time']}: {commit['subject']}"


def exit_in_words(exit: dict[str, Any] | None) -> str | None:
    if exit is None:
        return None
    how = f"code {exit['code']}" if exit["code"] is not None else f"signal {exit['signal']}"
    if exit["code"] is None and exit["signal"] is None:
        how = "status not known"
    return f"{how} ({exit['reason']}) at {exit['at']}"
