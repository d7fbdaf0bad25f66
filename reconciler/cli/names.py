"""What verbs that take a NAME have in common."""

from __future__ import annotations

import os
import pwd
import sys

from reconciler.cli.table import clean

NOT_FOUND = 4


def not_found(name: str) -> None:
    print(clean(f"reconciler: there is no container {name!r}; `reconciler ps` lists them"), file=sys.stderr)


def who() -> str:
    """Who asks, for people to read; nothing is decided on it."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = f"uid {os.getuid()}"
    asked = os.environ.get("SUDO_USER")
    return f"{asked} (as {user})" if asked and asked != user else user
