"""`explain FIELD`: what a field of the spec means, its type, its default and the fields in it."""

from __future__ import annotations

import argparse
import sys

from reconciler.agent.paths import Places
from reconciler.cli.names import NOT_FOUND
from reconciler.spec.schema import FieldDoc, describe


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("field", nargs="?", default="", metavar="FIELD", help="such as spec.resources.limits")


def run(args: argparse.Namespace, places: Places) -> int:
    found = describe(args.field)
    if found is None:
        message = f"reconciler: the spec has no field {args.field!r}; `reconciler explain` begins at the top"
        print(message, file=sys.stderr)
        return NOT_FOUND
    print(_line(found))
    for each in found.fields:
        print("  " + _line(each))
    return 0


def _line(field: FieldDoc) -> str:
    default = f", default {field.default}" if field.default else ""
    return f"{field.path or 'a container document'} <{field.type}{default}>  {field.description}".rstrip()
