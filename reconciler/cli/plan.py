"""`plan DIR`: what would be done, a line per action with its cause. Exit 0: nothing; 2: changes; 1: an error."""

from __future__ import annotations

import argparse
import json
import sys

from reconciler.agent.paths import Places, absolute
from reconciler.cli import agent_options
from reconciler.cli.table import clean

CHANGES = 2


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR")
    agent_options.add(parser)


def run(args: argparse.Namespace, places: Places) -> int:
    from reconciler.agent.once import plan
    from reconciler.loop.plan import as_json, render

    found, errors = plan(places, absolute(args.directory), agent_options.chosen(args))
    if args.output == "json":
        print(json.dumps({**as_json(found), "errors": list(errors)}, indent=2))
    else:
        for line in render(found).splitlines():
            print(clean(line))
        for error in errors:
            for line in error.splitlines():
                print(clean(line), file=sys.stderr)
    if errors:
        return 1
    return CHANGES if found.actions else 0
