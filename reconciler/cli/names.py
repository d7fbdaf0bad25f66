"""What verbs that take a NAME have in common."""

from __future__ import annotations

import sys

from reconciler.cli.table import clean

NOT_FOUND = 4


def not_found(name: str) -> None:
    print(clean(f"reconciler: there is no container {name!r}; `reconciler ps` lists them"), file=sys.stderr)
