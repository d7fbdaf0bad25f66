"""`plan SOURCE`: what would be done, a line per action with its cause. Exit 0: nothing; 2: changes; 1: an error."""

from __future__ import annotations

import argparse
import json

from reconciler.agent.paths import Places
from reconciler.cli import agent_options, source_options
from reconciler.cli.table import clean, complain


def configure(parser: argparse.ArgumentParser) -> None:
    source_options.add(parser)
    agent_options.add(parser)


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.once import plan
    from reconciler.loop.plan import as_json, render

    found = plan(places, source_options.chosen(args), agent_options.chosen(args))
    if args.output == "json":
        print(json.dumps({**as_json(found.plan), "errors": list(found.complaints)}, indent=2))
    else:
        for line in render(found.plan).splitlines():
            print(clean(line))
        for complaint in found.complaints:
            complain(complaint)
    return found.code
