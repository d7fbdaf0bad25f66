"""`why NAME`: the chain from the file to what is the case, and what happens next."""

from __future__ import annotations

import argparse
import json

from reconciler.agent import eventlog, report
from reconciler.agent.lock import holder
from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND, not_found
from reconciler.cli.status import commit_in_words, exit_in_words
from reconciler.cli.table import clean
from reconciler.states import EventType


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def run(args: argparse.Namespace, places: Places) -> int:
    row = report.row(places, args.name)
    if row is None:
        not_found(args.name)
        return NOT_FOUND
    chain = _chain(args.name, row, places)
    if args.output == "json":
        print(json.dumps([{"step": step, "fact": fact} for step, fact in chain], indent=2))
    else:
        for step, fact in chain:
            print(f"{step:<10} {clean(fact)}")
    return 0


def _last_action(name: str, places: Places) -> str | None:
    acted = [event for event in eventlog.past(places, name) if event["type"] == EventType.ACTING]
    return f"{acted[-1]['op']} at {acted[-1]['at']}: {acted[-1]['message']}" if acted else None


def _chain(name: str, row: report.JsonRow, places: Places) -> list[tuple[str, str]]:
    chain = [("file", row["source"] or "none that is known")]
    if commit := commit_in_words(row):
        chain.append(("commit", commit))
    try:
        record = report.record(places, name)
    except ValueError as error:
        chain.append(("record", f"cannot be read: {error}"))
    else:
        if record is None:
            chain.append(("record", "none: nothing was applied under this name"))
        else:
            life = record["life"]
            chain.append(("applied", f"generation {record['generation']}, digest {record['digest'][:12]}"))
            chain.append(("runs", f"{life['starts']} starts, {life['failures']} failures in a row"))
    if acted := _last_action(name, places):
        chain.append(("acted", acted))
    if ended := exit_in_words(row["exit"]):
        chain.append(("last exit", ended))
    chain.append(("now", f"{row['status']}" + (f", pid {row['pid']}" if row["pid"] else "")))
    if row["reason"]:
        chain.append(("reason", row["reason"]))
    chain += [("check", report.check_in_words(check)) for check in report.checks(places).get(name, [])]
    chain += [("because", part) for part in row["message"].split("; ") if part]
    if row["nextTry"]:
        chain.append(("next", f"tried again at {row['nextTry']}"))
    if holder(places) is None:
        chain.append(("agent", "none is running: nothing is restarted until one is"))
    return chain
